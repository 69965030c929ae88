import assert from 'node:assert/strict';
import { once } from 'node:events';
import {
  chmodSync,
  chownSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, type TestContext, test } from 'node:test';
import { Worker } from 'node:worker_threads';
import { isRoot } from '#core/mesh-user';
import { removeDirectory } from './remove.ts';

const UID = 4_711;

/** A directory of another user's beneath one of ours; as an ordinary user ours, too. */
function theirs(t: TestContext): {
  above: string;
  directory: string;
  give: (path: string) => void;
} {
  const above = mkdtempSync(join(tmpdir(), 'o-'));
  t.after(() => rmSync(above, { recursive: true, force: true }));
  chmodSync(above, 0o711);
  const give = (path: string) => isRoot() && chownSync(path, UID, UID);
  const directory = join(above, 'sbx-1');
  mkdirSync(directory);
  give(directory);
  return { above, directory, give };
}

test('files, links and what lies deeper go; what a link leads to stays', async (t) => {
  const { above, directory, give } = theirs(t);
  mkdirSync(join(above, 'precious'));
  writeFileSync(join(above, 'precious', 'file'), '');
  writeFileSync(join(directory, 'control'), '');
  symlinkSync(join(above, 'precious'), join(directory, 'link'));
  mkdirSync(join(directory, 'deep', 'deeper'), { recursive: true });
  symlinkSync(join(above, 'precious'), join(directory, 'deep', 'deeper', 'link'));
  for (const path of ['deep', 'deep/deeper']) give(join(directory, path));
  await removeDirectory(directory);
  assert.deepEqual(readdirSync(above), ['precious']);
  assert.deepEqual(readdirSync(join(above, 'precious')), ['file']);
});

test('what is not there is no failure', async (t) => {
  const { directory } = theirs(t);
  await removeDirectory(directory);
  await removeDirectory(directory);
  assert.equal(existsSync(directory), false);
});

/** In each directory, when its turn comes, takes away what is there. */
const EMPTYING = `
const { workerData: { turn, above, count } } = require('node:worker_threads');
const { unlinkSync } = require('node:fs');
for (let last = 0; last < count; ) {
  const now = Atomics.load(turn, 0);
  if (now === last) continue;
  last = now;
  try { unlinkSync(above + '/' + (now - 1) + '/egress'); } catch {}
}`;

test('a directory is gone, also where a sidecar takes its socket out of it at that very moment', async (t) => {
  const count = 2_000; // of which Node's rmSync leaves about ten, without a word
  const { above, give } = theirs(t);
  const paths = Array.from({ length: count }, (_, at) => join(above, String(at)));
  for (const path of paths) {
    mkdirSync(path);
    give(path);
    writeFileSync(join(path, 'egress'), '');
  }
  const turn = new Int32Array(new SharedArrayBuffer(4));
  const other = new Worker(EMPTYING, { eval: true, workerData: { turn, above, count } });
  t.after(() => other.terminate());
  await once(other, 'online');
  for (const [at, path] of paths.entries()) {
    Atomics.store(turn, 0, at + 1);
    await removeDirectory(path);
  }
  assert.deepEqual(paths.filter(existsSync), []);
});

describe('as root', { skip: !isRoot() }, () => {
  test('nothing deeper is removed that the runner could not remove itself', async (t) => {
    const { directory } = theirs(t);
    mkdirSync(join(directory, 'deep'));
    writeFileSync(join(directory, 'deep', 'file'), ''); // root's, as what an exchanged directory would lead to
    await assert.rejects(removeDirectory(directory));
    assert.ok(existsSync(join(directory, 'deep', 'file')));
    chownSync(join(directory, 'deep'), UID, UID);
    await removeDirectory(directory); // control: now it could
    assert.equal(existsSync(directory), false);
  });
});
