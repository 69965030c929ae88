import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { existsSync, mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { ArtefactStore, type ArtefactStoreOptions, type ReadFound } from './artefacts.ts';

const MIB = 2 ** 20;
const ALICE = { issuer: 'i', tenant: 't', subject: 'alice' };
const BOB = { ...ALICE, subject: 'bob' };
const sha256 = (data: Buffer): string => createHash('sha256').update(data).digest('hex');

function rig(t: TestContext, over: Partial<ArtefactStoreOptions> = {}) {
  const root = mkdtempSync(join(tmpdir(), 'outrider-artefacts-'));
  const directory = join(root, 'kept');
  const clock = { now: 0 };
  const store = new ArtefactStore({
    directory,
    perExecBytes: 4 * MIB,
    totalBytes: 8 * MIB,
    keepMs: 1_000,
    now: () => clock.now,
    ...over,
  });
  t.after(() => {
    store.close();
    rmSync(root, { recursive: true, force: true });
  });
  return { store, directory, clock };
}

/** Reads from memory as the agent does from /output; counts what was asked for. */
function files(content: Readonly<Record<string, Buffer>>) {
  const asked: number[] = [];
  const read: ReadFound = async (path, offset, length) => {
    asked.push(length);
    return (
      content[path]?.subarray(offset, offset + Math.min(length, 512 * 1024)) ?? Buffer.alloc(0)
    );
  };
  const found = Object.entries(content).map(([path, { length }]) => ({ path, size: length }));
  return { read, found, asked };
}

async function all(pieces: AsyncIterable<Buffer>): Promise<Buffer> {
  const parts: Buffer[] = [];
  for await (const piece of pieces) parts.push(piece);
  return Buffer.concat(parts);
}

test('small files travel with the end, large ones are kept; each has its hash', async (t) => {
  const { store } = rig(t);
  const content = {
    small: Buffer.from('abc'),
    'd/large': Buffer.alloc(3 * MIB, 7),
    none: Buffer.alloc(0),
  };
  const { read, found } = files(content);
  const artefacts = await store.keep('e1', ALICE, found, read);
  assert.deepEqual(
    artefacts.map(({ path, size, content: { length } }) => [path, size, length]),
    [
      ['small', 3, 3],
      ['d/large', 3 * MIB, 0],
      ['none', 0, 0],
    ],
  );
  for (const [path, data] of Object.entries(content)) {
    assert.equal(artefacts.find((one) => one.path === path)?.sha256, sha256(data));
    assert.ok((await all(store.open('e1', path))).equals(data), path);
  }
});

test('what travels with the end is at most 2 MiB together', async (t) => {
  const { store } = rig(t);
  const { read, found } = files(
    Object.fromEntries(
      Array.from({ length: 12 }, (_, n) => [`f${n}`, Buffer.alloc(256 * 1024, n)]),
    ),
  );
  const artefacts = await store.keep('e1', ALICE, found, read);
  assert.equal(artefacts.filter(({ content }) => content.length > 0).length, 8);
  assert.ok(artefacts.every(({ sha256: hash }) => hash !== ''));
});

test('a file that is larger than what is kept of an exec is only named, and never read', async (t) => {
  const { store } = rig(t);
  const { read, found, asked } = files({ after: Buffer.from('x') });
  const artefacts = await store.keep(
    'e1',
    ALICE,
    [{ path: 'sparse', size: 2 ** 50 }, ...found],
    read,
  );
  assert.deepEqual(
    artefacts.map(({ path, size, sha256: hash }) => [path, size, hash === '']),
    [
      ['sparse', 2 ** 50, true],
      ['after', 1, false],
    ],
  );
  assert.deepEqual(asked, [1]);
  await assert.rejects(all(store.open('e1', 'sparse')), { code: 'FILE_NOT_FOUND' });
});

test('never more is taken than a file was found to have', async (t) => {
  const { store } = rig(t);
  const endless: ReadFound = async () => Buffer.alloc(512 * 1024, 1);
  const [artefact] = await store.keep('e1', ALICE, [{ path: 'a', size: 1_000_000 }], endless);
  assert.equal(artefact?.size, 1_000_000);
  assert.equal((await all(store.open('e1', 'a'))).length, 1_000_000);
});

test('a file that has become shorter is what is there; one that cannot be read is only named', async (t) => {
  const { store } = rig(t);
  const read: ReadFound = async (path, offset) => {
    if (path === 'gone') throw new Error('gone');
    return offset === 0 ? Buffer.from('abc') : Buffer.alloc(0);
  };
  const found = ['short', 'gone', 'last'].map((path) => ({ path, size: 10 }));
  const artefacts = await store.keep('e1', ALICE, found, read);
  assert.deepEqual(
    artefacts.map(({ size, sha256: hash }) => [size, hash !== '']),
    [
      [3, true],
      [10, false],
      [3, true],
    ],
  );
  assert.equal((await all(store.open('e1', 'last'))).toString(), 'abc');
});

test('the oldest exec goes where all are too large together, and no other', async (t) => {
  const { store, directory } = rig(t);
  const { read, found } = files({ a: Buffer.alloc(3 * MIB, 1) });
  for (const id of ['e1', 'e2', 'e3']) await store.keep(id, ALICE, found, read);
  await assert.rejects(all(store.open('e1', 'a')), { code: 'FILE_NOT_FOUND' });
  for (const id of ['e2', 'e3']) assert.equal((await all(store.open(id, 'a'))).length, 3 * MIB);
  const kept = readdirSync(directory).map((name) => statSync(join(directory, name)).size);
  assert.ok(kept.reduce((sum, size) => sum + size, 0) <= 8 * MIB);
});

test('the oldest exec goes of whoever keeps the most: nobody crowds out another', async (t) => {
  const { store } = rig(t);
  const { read, found } = files({ a: Buffer.alloc(3 * MIB, 1) });
  const small = files({ a: Buffer.from('x') });
  await store.keep('small', BOB, small.found, small.read);
  for (const id of ['e1', 'e2', 'e3']) await store.keep(id, ALICE, found, read);
  assert.equal((await all(store.open('small', 'a'))).toString(), 'x', 'the oldest of all');
  await assert.rejects(all(store.open('e1', 'a')), { code: 'FILE_NOT_FOUND' });
});

test('what is kept goes after its time, and when it is forgotten', async (t) => {
  const { store, clock, directory } = rig(t);
  const { read, found } = files({ a: Buffer.from('x') });
  await store.keep('e1', ALICE, found, read);
  clock.now = 600;
  await store.keep('e2', ALICE, found, read);
  clock.now = 999;
  assert.equal((await all(store.open('e1', 'a'))).toString(), 'x');
  clock.now = 1_000;
  await assert.rejects(all(store.open('e1', 'a')), { code: 'FILE_NOT_FOUND' });
  assert.equal((await all(store.open('e2', 'a'))).toString(), 'x');
  store.forget('e2');
  await assert.rejects(all(store.open('e2', 'a')), { code: 'FILE_NOT_FOUND' });
  store.close();
  assert.equal(existsSync(directory), false);
});

test('what goes while it is read is read to its end', async (t) => {
  const { store } = rig(t);
  const { read, found } = files({ a: Buffer.alloc(2 * MIB, 3) });
  await store.keep('e1', ALICE, found, read);
  const reading = store.open('e1', 'a');
  const first = await reading.next();
  store.forget('e1');
  const rest = await all(reading);
  assert.ok(first.value);
  assert.equal(first.value.length + rest.length, 2 * MIB);
});

test('nothing is kept of an exec that left nothing, nor of an unknown one', async (t) => {
  const { store, directory } = rig(t);
  assert.deepEqual(await store.keep('e1', ALICE, [], async () => Buffer.alloc(0)), []);
  assert.deepEqual(readdirSync(directory), []);
  await assert.rejects(all(store.open('e1', 'a')), { code: 'FILE_NOT_FOUND' });
  store.forget('e9');
});

test('nobody else may look into the directory, and what an earlier runner left there is gone', async (t) => {
  const root = mkdtempSync(join(tmpdir(), 'outrider-artefacts-'));
  t.after(() => rmSync(root, { recursive: true, force: true }));
  writeFileSync(join(root, 'left'), 'x');
  const store = new ArtefactStore({ directory: root, perExecBytes: 1, totalBytes: 1, keepMs: 1 });
  t.after(() => store.close());
  assert.equal(statSync(root).mode & 0o777, 0o700);
  assert.deepEqual(readdirSync(root), []);
});

test('a directory that cannot be written loses the contents, not the end', async (t) => {
  const { store, directory } = rig(t);
  rmSync(directory, { recursive: true });
  const { read, found } = files({ a: Buffer.from('x') });
  const [artefact] = await store.keep('e1', ALICE, found, read);
  assert.deepEqual([artefact?.path, artefact?.sha256], ['a', '']);
});
