import assert from 'node:assert/strict';
import {
  appendFileSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { temporaryDirectory } from '../../testing.ts';
import { sharedDirectory } from './directory.ts';
import { logName } from './logs.ts';

const KEEP_MS = 60_000;
const MOVE = `session-${'0'.repeat(64)}`;

test('old moves, logs and what is left of writing are removed at the start, and nothing else, whatever its age or kind', (t) => {
  const directory = temporaryDirectory(t);
  const old = (name: string) => {
    const path = join(directory, name);
    utimesSync(path, 0, 0);
  };
  const gone = [MOVE, `${MOVE}.12.new`, `${MOVE}.12.new.0a1b2c3d4e5f.tmp`, logName('ended', 0)];
  const others = [
    'precious.txt',
    'session',
    'session-notes',
    'session.txt',
    'sessions-x',
    `x-${MOVE}`,
  ];
  for (const name of [...gone, ...others]) writeFileSync(join(directory, name), '');
  for (const name of ['old', 'session-directory']) mkdirSync(join(directory, name));
  symlinkSync('precious.txt', join(directory, 'session-link'));
  const stay = [...others, 'old', 'session-directory', 'session-link'];
  for (const name of readdirSync(directory)) old(name);
  writeFileSync(join(directory, MOVE.replace('0', '1')), '');

  sharedDirectory(directory, KEEP_MS).close();
  assert.deepEqual(new Set(readdirSync(directory)), new Set([...stay, MOVE.replace('0', '1')]));
});

test('half a line is not heard before the rest of it is there', async (t) => {
  const directory = temporaryDirectory(t);
  const store = sharedDirectory(directory, KEEP_MS);
  const heard: string[] = [];
  const hear = (topic: string, text: string) => void heard.push(`${topic} ${text}`);
  await store.tell('ended', 'one');
  const log = join(directory, logName('ended'));
  assert.equal(readFileSync(log, 'utf8'), 'one\n');
  appendFileSync(log, 'tw');
  await store.catchUp(hear);
  assert.deepEqual(heard, ['ended one']);
  appendFileSync(log, 'o\n');
  await store.catchUp(hear);
  assert.deepEqual(heard, ['ended one', 'ended two']);
});
