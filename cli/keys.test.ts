import assert from 'node:assert/strict';
import { chmodSync, mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { text } from 'node:stream/consumers';
import { test } from 'node:test';
import { temporaryDirectory } from '#core/testing/directory';
import { keys } from './keys.ts';

async function run(...argv: readonly string[]) {
  const [out, err] = [new PassThrough(), new PassThrough()];
  const code = await keys(argv, out, err);
  return { code, out: await text(out.end()), err: await text(err.end()) };
}

test('the keys of a mesh are made for their owner alone, and not replaced by a second call', async (t) => {
  const directory = join(temporaryDirectory(t), 'keys');
  const { code, out } = await run(directory);
  assert.equal(code, 0);
  const paths = out.trim().split('\n');
  assert.equal(paths.length, 5);
  const texts = paths.map((path) => readFileSync(path, 'utf8'));
  for (const path of paths) assert.equal(statSync(path).mode & 0o777, 0o600);
  const again = await run(directory);
  assert.equal(again.code, 1);
  assert.match(again.err, /gateway\.key\.json is there/);
  assert.equal(again.out, '');
  assert.deepEqual(
    paths.map((path) => readFileSync(path, 'utf8')),
    texts,
  );
});

test('a directory that others may enter is not closed to them, and a file is no directory', async (t) => {
  const root = temporaryDirectory(t);
  const [open, mine, file] = [join(root, 'open'), join(root, 'mine'), join(root, 'file')];
  mkdirSync(open);
  chmodSync(open, 0o755);
  mkdirSync(mine, { mode: 0o700 });
  writeFileSync(file, '');
  assert.equal((await run(open)).code, 1);
  assert.equal(statSync(open).mode & 0o777, 0o755);
  for (const path of [file, join(file, 'keys')]) {
    const { code, err } = await run(path);
    assert.equal(code, 1);
    assert.match(err, /^outrider keys: .*file/);
  }
  assert.equal((await run(mine)).code, 0, 'control');
});
