import assert from 'node:assert/strict';
import {
  chmodSync,
  chownSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmdirSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { mirrorPolicies } from './policy-mirror.ts';

const AS_ROOT = { skip: process.getuid?.() !== 0 };
const READER = 1_899_999_999;

function place(t: TestContext): { source: string; runtime: string } {
  const root = mkdtempSync(join(tmpdir(), 'o-mirror-'));
  t.after(() => rmSync(root, { recursive: true, force: true }));
  const source = join(root, 'policies');
  const runtime = join(root, 'runtime');
  for (const directory of [source, runtime]) mkdirSync(directory, { mode: 0o700 });
  return { source, runtime };
}

async function until(what: string, holds: () => boolean): Promise<void> {
  const end = Date.now() + 60_000;
  while (!holds()) {
    assert.ok(Date.now() < end, `${what}, within a minute`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

test(
  'a directory is copied for its reader, who may not write, and again when it changes',
  AS_ROOT,
  async (t) => {
    const { source, runtime } = place(t);
    mkdirSync(join(source, 'teams/one'), { recursive: true });
    writeFileSync(join(source, 'a.yaml'), 'first', { mode: 0o600 });
    writeFileSync(join(source, 'teams/one/b.yaml'), 'deep', { mode: 0o600 });
    const mirror = await mirrorPolicies(source, runtime, READER, assert.ifError);
    t.after(() => mirror.close());
    const copy = (name: string) => readFileSync(join(mirror.path, name), 'utf8');
    assert.equal(copy('a.yaml'), 'first');
    assert.equal(copy('teams/one/b.yaml'), 'deep');
    const readable = (name: string) => {
      const { uid, gid, mode } = statSync(join(mirror.path, name));
      return [uid, gid, (mode & 0o777).toString(8)];
    };
    for (const [name, mode] of [
      ['', '750'],
      ['teams', '750'],
      ['teams/one', '750'],
      ['a.yaml', '640'],
      ['teams/one/b.yaml', '640'],
    ] as const)
      assert.deepEqual(readable(name), [0, READER, mode], name);

    writeFileSync(join(source, 'a.yaml'), 'second');
    rmSync(join(source, 'teams'), { recursive: true });
    await until('the copy is renewed', () => copy('a.yaml') === 'second');
    assert.deepEqual(readdirSync(mirror.path), ['a.yaml']);
  },
);

test('a bundle stays one file, and the source may become the other', AS_ROOT, async (t) => {
  const { source, runtime } = place(t);
  rmSync(source, { recursive: true });
  writeFileSync(source, '{"bundle": 1}', { mode: 0o600 });
  const mirror = await mirrorPolicies(source, runtime, READER, assert.ifError);
  t.after(() => mirror.close());
  assert.equal(readFileSync(mirror.path, 'utf8'), '{"bundle": 1}');
  rmSync(source);
  mkdirSync(source);
  writeFileSync(join(source, 'a.yaml'), 'now a directory');
  await until('the copy is a directory', () => statSync(mirror.path).isDirectory());
  assert.equal(readFileSync(join(mirror.path, 'a.yaml'), 'utf8'), 'now a directory');
});

test('what cannot be read keeps the last copy, and is told once', AS_ROOT, async (t) => {
  const { source, runtime } = place(t);
  writeFileSync(join(source, 'a.yaml'), 'kept');
  const told: unknown[] = [];
  const mirror = await mirrorPolicies(source, runtime, READER, (error) => void told.push(error));
  t.after(() => mirror.close());
  rmSync(source, { recursive: true });
  await until('it is told', () => told.length > 0);
  assert.equal(readFileSync(join(mirror.path, 'a.yaml'), 'utf8'), 'kept');
  mkdirSync(source);
  writeFileSync(join(source, 'a.yaml'), 'back');
  await until('and goes on', () => readFileSync(join(mirror.path, 'a.yaml'), 'utf8') === 'back');
  assert.equal(told.length, 1);
});

const PLANTED: readonly (readonly [string, (place: string, elsewhere: string) => void])[] = [
  ['a link to a directory of root', (at, elsewhere) => symlinkSync(elsewhere, at)],
  ['a link to nothing', (at, elsewhere) => symlinkSync(join(elsewhere, 'missing'), at)],
  ['a file', (at) => writeFileSync(at, '')],
  [
    'a directory of somebody else',
    (at) => {
      mkdirSync(at);
      chownSync(at, READER, READER);
    },
  ],
  [
    'a directory that others may write in',
    (at) => {
      mkdirSync(at);
      chmodSync(at, 0o770);
    },
  ],
];
for (const [what, plant] of PLANTED)
  test(
    `D13: ${what} in its place is refused and left as it is; without it the copy is made`,
    AS_ROOT,
    async (t) => {
      const { source, runtime } = place(t);
      writeFileSync(join(source, 'a.yaml'), 'text');
      const elsewhere = join(runtime, '..', 'elsewhere');
      mkdirSync(elsewhere, { mode: 0o700 });
      plant(join(runtime, 'policies'), elsewhere);
      const make = () => mirrorPolicies(source, runtime, READER, assert.ifError);
      await assert.rejects(make(), { code: 'CONFIG_INVALID' });
      const { gid, mode } = statSync(elsewhere);
      assert.deepEqual([gid, mode & 0o777, readdirSync(elsewhere)], [0, 0o700, []]);
      rmSync(join(runtime, 'policies'), { recursive: true });
      const mirror = await make();
      t.after(() => mirror.close());
      assert.equal(readFileSync(join(mirror.path, 'a.yaml'), 'utf8'), 'text');
      const { uid, mode: own } = statSync(join(runtime, 'policies'));
      assert.deepEqual([uid, own & 0o7777], [0, 0o750], 'and its reader may not write in it');
    },
  );

test('what a run that was killed has left is removed', AS_ROOT, async (t) => {
  const { source, runtime } = place(t);
  writeFileSync(join(source, 'a.yaml'), 'text');
  mkdirSync(join(runtime, 'policies/1/teams'), { recursive: true });
  symlinkSync('1', join(runtime, 'policies/current'));
  const mirror = await mirrorPolicies(source, runtime, READER, assert.ifError);
  t.after(() => mirror.close());
  assert.deepEqual(readdirSync(mirror.path), ['a.yaml']);
});

test(
  'a renewal that fails half way leaves no copy, and the next one is made',
  AS_ROOT,
  async (t) => {
    const { source, runtime } = place(t);
    writeFileSync(join(source, 'a.yaml'), 'first');
    const told: unknown[] = [];
    const mirror = await mirrorPolicies(source, runtime, READER, (error) => void told.push(error));
    t.after(() => mirror.close());
    const names = () => readdirSync(join(runtime, 'policies')).length;
    const before = names();
    mkdirSync(`${mirror.path}.next`);
    writeFileSync(join(source, 'a.yaml'), 'second');
    await until('it is told', () => told.length > 0);
    rmdirSync(`${mirror.path}.next`);
    await until('it goes on', () => readFileSync(join(mirror.path, 'a.yaml'), 'utf8') === 'second');
    await until('only the new copy is there', () => names() === before);
  },
);

test('nothing is left when it is closed', AS_ROOT, async (t) => {
  const { source, runtime } = place(t);
  writeFileSync(join(source, 'a.yaml'), 'text');
  const mirror = await mirrorPolicies(source, runtime, READER, assert.ifError);
  assert.notDeepEqual(readdirSync(runtime), []);
  await mirror.close();
  assert.deepEqual(readdirSync(runtime), []);
});

test('a source that is not there is said at once', async (t) => {
  const { source, runtime } = place(t);
  await assert.rejects(mirrorPolicies(join(source, 'missing'), runtime, READER, assert.ifError), {
    code: 'POLICY_INVALID',
  });
});
