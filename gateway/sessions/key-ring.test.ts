import assert from 'node:assert/strict';
import { chmodSync, existsSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { parseAddress } from '#core/address';
import { silentLogger } from '#core/log';
import { sessionKeys, temporaryDirectory } from '../testing.ts';
import { openKeyRing } from './key-ring.ts';

const LOOPBACK = parseAddress('127.0.0.1:1');
const ANYWHERE = parseAddress('0.0.0.0:1');

function fileWith(t: TestContext, text: string): string {
  const path = join(temporaryDirectory(t), 'keys.json');
  writeFileSync(path, text, { mode: 0o600 });
  return path;
}

test('on loopback a missing file is made, for its owner only, and kept', (t) => {
  const path = join(temporaryDirectory(t), 'state/keys.json');
  const made = openKeyRing(path, LOOPBACK, silentLogger)();
  assert.equal(statSync(path).mode & 0o777, 0o600);
  const again = openKeyRing(path, LOOPBACK, silentLogger)();
  assert.ok(again.first.key.equals(made.first.key), 'a restart ends no session');
});

test('beyond loopback a missing file, and one that a gateway made for itself, is refused', (t) => {
  const path = join(temporaryDirectory(t), 'keys.json');
  assert.throws(() => openKeyRing(path, ANYWHERE, silentLogger), { code: 'CONFIG_INVALID' });
  assert.ok(!existsSync(path));
  openKeyRing(path, LOOPBACK, silentLogger);
  assert.throws(() => openKeyRing(path, ANYWHERE, silentLogger), { code: 'CONFIG_INVALID' });
  assert.doesNotThrow(() =>
    openKeyRing(fileWith(t, sessionKeys('shared')), ANYWHERE, silentLogger),
  );
});

const key = (bytes: Buffer | string) =>
  JSON.stringify({ keys: [{ kid: 'k', key: Buffer.from(bytes).toString('base64') }] });
const good = JSON.parse(sessionKeys('k')).keys[0].key;
const BAD: [string, string][] = [
  ['no JSON', '{'],
  ['no list', '{"keys": {}}'],
  ['no key', '{"keys": []}'],
  ['a short key', key('short')],
  ['a key of 31 bytes', key(Buffer.from(good, 'base64').subarray(1))],
  ['a key of zeros', key(Buffer.alloc(32))],
  ['a key that somebody typed', key('changemechangemechangemechangeme')],
  ['a key without a name', JSON.stringify({ keys: [{ key: good }] })],
  ['a name with a dot', JSON.stringify({ keys: [{ kid: 'a.b', key: good }] })],
  [
    'two keys of one name',
    JSON.stringify({
      keys: [
        { kid: 'k', key: good },
        { kid: 'k', key: good },
      ],
    }),
  ],
];

for (const [what, text] of BAD)
  test(`${what} keeps a gateway from starting, on loopback too, and is not quoted`, (t) => {
    const path = fileWith(t, text);
    for (const listen of [LOOPBACK, ANYWHERE])
      assert.throws(
        () => openKeyRing(path, listen, silentLogger),
        (error: Error & { code: string }) =>
          error.code === 'CONFIG_INVALID' && !error.message.includes(good),
      );
    writeFileSync(path, sessionKeys('k'));
    assert.doesNotThrow(() => openKeyRing(path, ANYWHERE, silentLogger));
  });

test('a file that others may read is refused', (t) => {
  const path = fileWith(t, sessionKeys('k'));
  chmodSync(path, 0o640);
  assert.throws(() => openKeyRing(path, LOOPBACK, silentLogger), { code: 'CONFIG_INVALID' });
  chmodSync(path, 0o600);
  assert.doesNotThrow(() => openKeyRing(path, LOOPBACK, silentLogger));
});

test('a changed file is read within a second, and a broken or missing one changes nothing', (t) => {
  t.mock.timers.enable({ apis: ['Date'] });
  const path = fileWith(t, sessionKeys('k1'));
  const ring = openKeyRing(path, LOOPBACK, silentLogger);
  const [old] = JSON.parse(readFileSync(path, 'utf8')).keys;
  const [fresh] = JSON.parse(sessionKeys('k2')).keys;
  writeFileSync(path, JSON.stringify({ keys: [fresh, old] }));
  t.mock.timers.tick(1_000);
  assert.equal(ring().first.kid, 'k2');
  assert.ok(ring().find('k1'));
  writeFileSync(path, '{');
  t.mock.timers.tick(1_000);
  assert.equal(ring().first.kid, 'k2');
  rmSync(path);
  t.mock.timers.tick(1_000);
  assert.equal(ring().first.kid, 'k2');
});
