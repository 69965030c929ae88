import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import {
  chmodSync,
  copyFileSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { addKey, changingKeys, dropOldKeys, makeKeyFile, readKeyRing } from './key-ring.ts';
import { open, parseSealed } from './sealed.ts';
import { parseSlot, SecretStore, slotPath, slotText } from './store.ts';

const VALUE = 'value-of-the-slot-6b1f';
const SLOT = { instance: 'main', name: 'TOKEN' };

function rig(t: TestContext) {
  const root = mkdtempSync(join(tmpdir(), 'outrider-store-'));
  t.after(() => rmSync(root, { recursive: true }));
  const directory = join(root, 'store');
  const place = `file:${join(root, 'keys', 'store.key')}`;
  makeKeyFile(place);
  const ring = () => readKeyRing(place, {});
  const store = new SecretStore(directory, ring);
  const read = (slot = SLOT) =>
    open(slotText(slot), parseSealed(readFileSync(slotPath(directory, slot), 'utf8')), ring());
  return { root, directory, place, ring, store, read };
}

test('what is set can be opened, is listed by name alone, and lies on the disk sealed, for its owner', (t) => {
  const { root, directory, place, store, read } = rig(t);
  store.set(SLOT, VALUE);
  store.set({ instance: 'main', name: 'a/b.c' }, 'another-value');
  assert.equal(read(), VALUE);
  assert.deepEqual(store.list().map(slotText), ['store:main:TOKEN', 'store:main:a/b.c']);
  assert.ok(!JSON.stringify(store.list()).includes(VALUE));
  const files = readdirSync(root, { recursive: true, withFileTypes: true });
  for (const file of files) {
    const path = join(file.parentPath, file.name);
    assert.equal(statSync(path).mode & 0o777, file.isDirectory() ? 0o700 : 0o600, path);
    if (file.isFile()) assert.ok(!readFileSync(path, 'utf8').includes(VALUE), path);
  }
  assert.equal(statSync(place.slice('file:'.length)).mode & 0o777, 0o600);
  assert.deepEqual(readdirSync(join(directory, 'main')).toSorted(), [
    'TOKEN.secret.json',
    'a%2Fb.c.secret.json',
  ]);
});

test('the same value is sealed differently each time', (t) => {
  const { directory, store } = rig(t);
  const sealed = () => {
    store.set(SLOT, VALUE);
    return readFileSync(slotPath(directory, SLOT), 'utf8');
  };
  assert.notEqual(parseSealed(sealed()).data, parseSealed(sealed()).data);
});

const damages: readonly (readonly [string, (path: string, directory: string) => void])[] = [
  [
    'a flipped bit',
    (path) => {
      const sealed = parseSealed(readFileSync(path, 'utf8'));
      const data = Buffer.from(sealed.data, 'base64url');
      data[0] = (data[0] ?? 0) ^ 1;
      writeFileSync(path, JSON.stringify({ ...sealed, data: data.toString('base64url') }));
    },
  ],
  [
    'another date',
    (path) => {
      const sealed = parseSealed(readFileSync(path, 'utf8'));
      writeFileSync(path, JSON.stringify({ ...sealed, changedAt: '2020-01-01T00:00:00.000Z' }));
    },
  ],
  [
    'a file that was moved here',
    (path, directory) => {
      copyFileSync(slotPath(directory, { instance: 'main', name: 'OTHER' }), path);
    },
  ],
  ['a file that was cut', (path) => writeFileSync(path, readFileSync(path).subarray(0, 40))],
  ['an empty file', (path) => writeFileSync(path, '')],
  [
    'another key',
    (path) => {
      const sealed = parseSealed(readFileSync(path, 'utf8'));
      writeFileSync(path, JSON.stringify({ ...sealed, key: '0123456789ab' }));
    },
  ],
];
for (const [what, damage] of damages)
  test(`${what} does not open`, (t) => {
    const { directory, store, read } = rig(t);
    store.set(SLOT, VALUE);
    store.set({ instance: 'main', name: 'OTHER' }, 'other-value');
    assert.equal(read(), VALUE);
    damage(slotPath(directory, SLOT), directory);
    assert.throws(() => read());
  });

for (const [value, why] of [
  ['', 'empty'],
  ['two\nlines', 'a line end'],
  ['a\tb', 'a control character'],
  ['schlüssel', 'beyond ASCII'],
  ['x'.repeat(8_193), 'over 8 KiB'],
] as const)
  test(`a value that could not be used is refused: ${why}`, (t) => {
    const { store } = rig(t);
    assert.throws(() => store.set(SLOT, value), { code: 'INVALID_REQUEST' });
    assert.deepEqual(store.list(), []);
  });

for (const text of [
  '',
  'x',
  'store:main',
  'store::X',
  'store:a/b:X',
  'store:..:X',
  'main:../X',
  'file:x:y',
  `store:main:${'a/'.repeat(63)}b`,
])
  test(`${JSON.stringify(text)} is no slot`, () => {
    assert.throws(() => parseSlot(text), { code: 'INVALID_REQUEST' });
  });

test('a change of the key seals everything anew; the one before the last is forgotten', (t) => {
  const { store, read, place, ring } = rig(t);
  store.set(SLOT, VALUE);
  const [{ changedAt, key: oldKey } = { changedAt: '', key: '' }] = store.list();
  for (const round of [1, 2]) {
    addKey(place, {});
    assert.equal(read(), VALUE, 'also in between');
    assert.equal(store.reseal(), 1);
    dropOldKeys(place, {});
    assert.equal(ring().length, 2, `round ${round}`);
    assert.equal(read(), VALUE);
  }
  const [listed] = store.list();
  assert.equal(listed?.changedAt, changedAt, 'the value did not change');
  assert.equal(listed?.key, ring()[0].id);
  assert.ok(!ring().some(({ id }) => id === oldKey));
});

test('of two who change the key at once one is refused: each would forget the key that the other seals with', (t) => {
  const { place, store, read, ring } = rig(t);
  store.set(SLOT, VALUE);
  const change = () =>
    changingKeys(place, () => {
      addKey(place, {});
      store.reseal();
      dropOldKeys(place, {});
    });
  changingKeys(place, () => assert.throws(change, { code: 'CONFIG_INVALID' }));
  assert.equal(ring().length, 1, 'nothing was changed');
  change();
  assert.equal(ring().length, 2);
  assert.equal(read(), VALUE);
});

test('one who was killed while the key was changed keeps nobody out', (t) => {
  const { place, ring } = rig(t);
  const { pid } = spawnSync('true');
  const lock = `${place.slice('file:'.length)}.lock`;
  writeFileSync(lock, String(pid));
  assert.equal(changingKeys(place, ring).length, 1);
  writeFileSync(lock, String(process.pid));
  assert.throws(() => changingKeys(place, ring), { code: 'CONFIG_INVALID' }, 'control: it runs');
});

test('a key comes from the environment, several apart by commas', (t) => {
  const { root } = rig(t);
  const [one, two] = [randomBytes(32), randomBytes(32)].map((key) => key.toString('base64'));
  const env = { KEY: String(one) };
  const store = new SecretStore(join(root, 'by-env'), () => readKeyRing('env:KEY', env));
  store.set(SLOT, VALUE);
  env.KEY = `${two}, ${one}`;
  assert.equal(store.reseal(), 1);
  env.KEY = String(two);
  assert.equal(store.list()[0]?.key, readKeyRing('env:KEY', env)[0].id);
});

const badKeys: readonly (readonly [string, string, Record<string, string>])[] = [
  ['there is none', 'env:MISSING', {}],
  ['it is short', 'env:KEY', { KEY: randomBytes(16).toString('base64') }],
  ['it is no base64', 'env:KEY', { KEY: 'x'.repeat(43).concat('!') }],
  ['its place is no place', 'KEY', {}],
];
for (const [why, place, env] of badKeys)
  test(`a key is refused, and not shown: ${why}`, () => {
    assert.throws(
      () => readKeyRing(place, env),
      (error: Error) =>
        'code' in error &&
        error.code === 'CONFIG_INVALID' &&
        !(env['KEY'] && error.message.includes(env['KEY'])),
    );
  });

test('a key file that others may read is refused, until it is theirs no more', (t) => {
  const { place, ring } = rig(t);
  const path = place.slice('file:'.length);
  chmodSync(path, 0o640);
  assert.throws(ring, { code: 'CONFIG_INVALID' });
  chmodSync(path, 0o600);
  assert.equal(ring().length, 1);
});

test('a directory that is not a secret is passed over, a file beside the secrets and a link to nothing too', (t) => {
  const { directory, store } = rig(t);
  store.set(SLOT, VALUE);
  symlinkSync(join(directory, 'nowhere'), join(directory, 'link'));
  mkdirSync(join(directory, 'empty'));
  writeFileSync(
    join(directory, 'main', 'TOKEN.secret.json.abc.tmp'),
    'of a writer that was killed',
  );
  assert.equal(store.list().length, 1);
});
