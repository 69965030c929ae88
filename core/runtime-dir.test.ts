import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import {
  chmodSync,
  chownSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { describe, type TestContext, test } from 'node:test';
import {
  ensurePrivateDir,
  ensureRuntimeDir,
  isShared,
  runtimeDir,
  stateDir,
  writeMeshFile,
  writePrivateFile,
} from './runtime-dir.ts';
import { temporaryDirectory } from './testing/directory.ts';

const modeOf = (path: string) => lstatSync(path).mode & 0o777;

const runtimes: readonly (readonly [Record<string, string>, number, string])[] = [
  [{ OUTRIDER_RUNTIME_DIR: '/r', XDG_RUNTIME_DIR: '/x' }, 0, '/r'],
  [{ XDG_RUNTIME_DIR: '/x' }, 0, '/run/outrider'],
  [{ XDG_RUNTIME_DIR: '/x' }, 1000, '/x/outrider'],
  [{ OUTRIDER_RUNTIME_DIR: '' }, 1000, '/tmp/outrider-1000'],
];
for (const [env, uid, expected] of runtimes)
  test(`runtime files of uid ${uid} with ${JSON.stringify(env)} are in ${expected}`, () => {
    assert.equal(runtimeDir(env, uid), expected);
  });

const states: readonly (readonly [Record<string, string>, number, string])[] = [
  [{ OUTRIDER_STATE_DIR: '/s', XDG_STATE_HOME: '/x', HOME: '/h' }, 0, '/s'],
  [{ XDG_STATE_HOME: '/x', HOME: '/h' }, 0, '/x/outrider'],
  [{ HOME: '/root' }, 0, '/var/lib/outrider'],
  [{ HOME: '/h' }, 1000, '/h/.local/state/outrider'],
  [{}, 1000, '/tmp/.local/state/outrider'],
];
for (const [env, uid, expected] of states)
  test(`state of uid ${uid} with ${JSON.stringify(env)} is in ${expected}`, () => {
    assert.equal(stateDir(env, uid), expected);
  });

test("a private directory is made its owner's only, with those above it, and made so again", (t) => {
  const path = join(temporaryDirectory(t), 'a', 'b');
  assert.equal(ensurePrivateDir(path), path);
  assert.equal(modeOf(path), 0o700);
  chmodSync(path, 0o755);
  writeFileSync(join(path, 'kept'), '');
  ensurePrivateDir(path);
  assert.equal(modeOf(path), 0o700);
  assert.deepEqual(readdirSync(path), ['kept']);
  ensurePrivateDir(path, 0o711);
  assert.equal(modeOf(path), 0o711);
});

test('what somebody else could have put there first is refused', (t) => {
  const root = temporaryDirectory(t);
  mkdirSync(join(root, 'real'));
  symlinkSync(join(root, 'real'), join(root, 'link'));
  assert.throws(() => ensurePrivateDir(join(root, 'link')), { code: 'CONFIG_INVALID' });
  writeFileSync(join(root, 'file'), '');
  assert.throws(() => ensurePrivateDir(join(root, 'file')), Error);
  assert.equal(modeOf(join(root, 'real')) & 0o055, 0o055, 'the target of the link is as it was');
});

test("another user's directory is refused", {
  skip: process.getuid?.() === 0 ? false : 'needs root; .ci/run runs as root',
}, (t) => {
  const path = join(temporaryDirectory(t), 'theirs');
  mkdirSync(path);
  chownSync(path, 65_534, 65_534);
  assert.throws(() => ensurePrivateDir(path), { code: 'CONFIG_INVALID' });
  chownSync(path, 0, 0);
  assert.doesNotThrow(() => ensurePrivateDir(path));
});

test('a private file appears whole, replaces the one before, and leaves nothing beside it', (t) => {
  const root = temporaryDirectory(t);
  const path = join(root, 'key');
  writeFileSync(path, 'old', { mode: 0o644 });
  writePrivateFile(path, 'new');
  assert.equal(readFileSync(path, 'utf8'), 'new');
  assert.equal(modeOf(path), 0o600);
  assert.deepEqual(readdirSync(root), ['key']);
});

test('a private file is written through nothing that somebody put beside it', (t) => {
  const root = temporaryDirectory(t);
  const path = join(root, 'key');
  symlinkSync(join(root, 'precious'), path);
  symlinkSync(join(root, 'precious'), `${path}.${process.pid}.tmp`);
  writePrivateFile(path, 'new');
  assert.equal(existsSync(join(root, 'precious')), false);
  assert.ok(lstatSync(path).isFile());
});

describe('where root and the mesh’s user meet', { skip: process.getuid?.() !== 0 }, () => {
  const UID = 4_711;
  const as = (uid: number, ...argv: string[]) => {
    const [command = '', ...words] = argv;
    return spawnSync(command, words, { uid, gid: uid }).status === 0;
  };
  const shared = (t: TestContext): string => {
    const root = temporaryDirectory(t);
    chmodSync(root, 0o755);
    return ensureRuntimeDir(join(root, 'run'), UID);
  };

  test('that user may put something there and remove it, and others may not even look', (t) => {
    const path = shared(t);
    assert.ok(isShared(path));
    assert.ok(as(UID, 'touch', join(path, 'own')));
    assert.ok(as(UID, 'rm', join(path, 'own')));
    assert.equal(as(UID + 1, 'ls', path), false);
    assert.ok(as(0, 'ls', path), 'control: root may');
  });

  test('what is root’s that user can neither remove, replace nor write, and read only what is for the mesh', (t) => {
    const path = shared(t);
    const [key, assertion] = [join(path, 'key'), join(path, 'assertion')];
    writePrivateFile(key, '');
    writeMeshFile(assertion, '');
    for (const file of [key, assertion]) {
      assert.equal(as(UID, 'rm', '-f', file), false);
      assert.equal(as(UID, 'mv', file, `${file}-2`), false);
      assert.equal(as(UID, 'test', '-w', file), false);
    }
    assert.equal(as(UID, 'test', '-r', key), false);
    assert.ok(as(UID, 'test', '-r', assertion));
    assert.equal(as(UID + 1, 'test', '-r', assertion), false);
  });

  test('it stays when it is made again, follows another user, and is private again for none', (t) => {
    const path = shared(t);
    assert.ok(isShared(ensureRuntimeDir(path, UID)));
    ensureRuntimeDir(path, UID + 1);
    assert.ok(as(UID + 1, 'touch', join(path, 'own')));
    assert.equal(as(UID, 'ls', path), false);
    ensureRuntimeDir(path, 0);
    assert.equal(isShared(path), false);
    assert.equal(as(UID + 1, 'ls', path), false);
  });

  test('elsewhere a file for the mesh is its owner’s only', (t) => {
    const path = join(temporaryDirectory(t), 'assertion');
    writeMeshFile(path, '');
    assert.equal(modeOf(path), 0o600);
  });

  test('a directory of somebody else is refused', (t) => {
    const path = shared(t);
    chownSync(path, UID, UID);
    assert.throws(() => ensureRuntimeDir(path, UID), { code: 'CONFIG_INVALID' });
  });
});
