import assert from 'node:assert/strict';
import {
  chmodSync,
  chownSync,
  existsSync,
  linkSync,
  lstatSync,
  mkdirSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { describe, type TestContext, test } from 'node:test';
import { handOver } from './hand-over.ts';
import { isRoot } from './mesh-user.ts';
import { temporaryDirectory } from './testing/directory.ts';

const UID = 4_711;

/** A file in a directory of its own, in one that is closed to everybody else. */
function place(t: TestContext): { directory: string; file: string } {
  const closed = temporaryDirectory(t);
  return { directory: join(closed, 'runner'), file: join(closed, 'runner', 'execs.jsonl') };
}

function made(t: TestContext) {
  const { directory, file } = place(t);
  mkdirSync(directory, { mode: 0o755 });
  writeFileSync(file, 'kept');
  writeFileSync(`${file}.new`, '');
  return { directory, file };
}

describe('a file that is handed over', { skip: !isRoot() }, () => {
  test('has a directory of its own, made for its user, which this process can reach', (t) => {
    const { directory, file } = place(t);
    const path = handOver(file, UID);
    assert.match(path, /^\/proc\/self\/fd\/\d+\/execs\.jsonl$/);
    assert.equal(statSync(dirname(path)).ino, statSync(directory).ino);
    const { uid, gid, mode } = statSync(directory);
    assert.deepEqual([uid, gid, mode & 0o7777], [UID, UID, 0o700]);
    assert.equal(statSync(dirname(directory)).uid, 0, 'and nothing else');
  });

  test('is given with its successor where it was root’s, and again after root wrote it', (t) => {
    const { directory, file } = made(t);
    for (const round of [1, 2]) {
      handOver(file, UID);
      for (const path of [directory, file, `${file}.new`])
        assert.equal(statSync(path).uid, UID, `${path}, ${round}`);
      chownSync(file, 0, 0);
    }
  });

  test('is left alone where its directory holds something else', (t) => {
    const { directory, file } = made(t);
    writeFileSync(join(directory, 'another'), '');
    handOver(file, UID);
    assert.deepEqual([statSync(directory).uid, statSync(file).uid], [0, 0]);
  });

  test('is left alone where its directory is somebody else’s', (t) => {
    const { directory, file } = made(t);
    chownSync(directory, 99, 99);
    handOver(file, UID);
    assert.deepEqual([statSync(directory).uid, statSync(file).uid], [99, 0]);
  });

  test('is refused as a link, and what that leads to stays root’s', (t) => {
    const { directory, file } = place(t);
    const precious = join(dirname(directory), 'precious');
    writeFileSync(precious, '');
    mkdirSync(directory);
    symlinkSync(precious, file);
    assert.throws(() => handOver(file, UID), { code: 'CONFIG_INVALID' });
    assert.equal(statSync(precious).uid, 0);
  });

  test('is refused behind a link to a directory', (t) => {
    const { directory, file } = place(t);
    const precious = join(dirname(directory), 'precious');
    mkdirSync(precious);
    symlinkSync(precious, directory);
    assert.throws(() => handOver(file, UID), { code: 'CONFIG_INVALID' });
    assert.equal(statSync(precious).uid, 0);
  });

  test('is not given where it has a second name', (t) => {
    const { directory, file } = place(t);
    const precious = join(dirname(directory), 'precious');
    writeFileSync(precious, '');
    mkdirSync(directory);
    linkSync(precious, file);
    handOver(file, UID);
    assert.equal(lstatSync(precious).uid, 0);
  });
});

test('for nobody, it stays where it is and as it is', (t) => {
  const { directory, file } = place(t);
  chmodSync(dirname(directory), 0o700);
  assert.equal(handOver(file, 0), file);
  assert.equal(existsSync(directory), false);
});
