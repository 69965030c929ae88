import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { mkdirSync, mkdtempSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { OutriderError } from '#core/errors';
import { readKeyRing } from './secrets/key-ring.ts';
import { SecretStore } from './secrets/store.ts';
import { createSecrets } from './secrets.ts';

const KEYS = { KEY: randomBytes(32).toString('base64') };

function slots(t: TestContext) {
  const root = mkdtempSync(join(tmpdir(), 'outrider-secrets-'));
  t.after(() => rmSync(root, { recursive: true }));
  const directory = join(root, 'secrets');
  mkdirSync(directory);
  writeFileSync(join(root, 'outside'), 'outside-secret');
  const write = (name: string, value: string) => writeFileSync(join(directory, name), value);
  const env = { API_KEY: 'from-env', EMPTY: '', TWO_LINES: 'a\r\nx-injected: 1' };
  const clock = { ms: 0 };
  const store = { directory: join(root, 'store'), ring: () => readKeyRing('env:KEY', KEYS) };
  const secrets = createSecrets({ directory, env, store, now: () => clock.ms });
  return {
    root,
    directory,
    write,
    clock,
    secrets,
    store: new SecretStore(store.directory, store.ring),
  };
}

test('a secret is read from the environment', (t) => {
  assert.equal(slots(t).secrets.read('env:API_KEY'), 'from-env');
});

test('a secret is read from a file, without its last line feed', (t) => {
  const { write, secrets } = slots(t);
  write('password', 'hunter22\n');
  assert.equal(secrets.read('file:password'), 'hunter22');
});

test('a file in a directory below, and a link that stays inside, are read', (t) => {
  const { directory, write, secrets } = slots(t);
  mkdirSync(join(directory, '..data'));
  write('..data/token', 'mounted');
  symlinkSync('..data/token', join(directory, 'token'));
  assert.equal(secrets.read('file:token'), 'mounted');
  assert.equal(secrets.read('file:..data/token'), 'mounted');
});

test('a file that changed is read again within 200 ms, one of the same length at the same path too', (t) => {
  const { write, secrets, clock } = slots(t);
  write('password', 'first');
  assert.equal(secrets.read('file:password'), 'first');
  write('password', 'other');
  clock.ms = 199;
  assert.equal(secrets.read('file:password'), 'first');
  clock.ms = 200;
  assert.equal(secrets.read('file:password'), 'other');
});

test('a mount that Kubernetes swaps is read anew, and one that is swapped away is an error', (t) => {
  const { directory, write, secrets, clock } = slots(t);
  for (const version of ['one', 'two']) {
    mkdirSync(join(directory, `..${version}`));
    write(`..${version}/token`, `secret-${version}`);
  }
  const point = (to: string) => {
    symlinkSync(to, join(directory, '..next'));
    renameSync(join(directory, '..next'), join(directory, '..data'));
    clock.ms += 200;
  };
  point('..one');
  symlinkSync('..data/token', join(directory, 'token'));
  assert.equal(secrets.read('file:token'), 'secret-one');
  point('..two');
  assert.equal(secrets.read('file:token'), 'secret-two');
  point('..three');
  assert.throws(() => secrets.read('file:token'), { code: 'CREDENTIAL_UNAVAILABLE' });
  point('..one');
  assert.equal(secrets.read('file:token'), 'secret-one');
});

test('a secret is read from the store, again when it was set anew, and no more when it was removed', (t) => {
  const { secrets, store, clock } = slots(t);
  const slot = { instance: 'main', name: 'team/API.key' };
  store.set(slot, 'stored-one');
  assert.equal(secrets.read('store:main:team/API.key'), 'stored-one');
  store.set(slot, 'stored-two');
  clock.ms += 200;
  assert.equal(secrets.read('store:main:team/API.key'), 'stored-two');
  store.remove(slot);
  clock.ms += 200;
  assert.throws(() => secrets.read('store:main:team/API.key'), { code: 'CREDENTIAL_UNAVAILABLE' });
});

test('PEM is read as PEM, and never as a header', (t) => {
  const { write, secrets } = slots(t);
  const pem = '-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----';
  write('tls', `${pem}\n`);
  assert.equal(secrets.readPem('file:tls'), pem);
  assert.throws(() => secrets.read('file:tls'), { code: 'CREDENTIAL_UNAVAILABLE' });
  assert.throws(() => secrets.readPem('env:API_KEY'), { code: 'CREDENTIAL_UNAVAILABLE' });
});

const refusals: readonly (readonly [string, string])[] = [
  ['env:MISSING', 'a variable that is not set'],
  ['env:EMPTY', 'an empty variable'],
  ['env:TWO_LINES', 'a line end, which would begin another header'],
  ['file:missing', 'a file that is not there'],
  ['file:empty', 'an empty file'],
  ['file:control', 'a control character'],
  ['file:umlaut', 'a character that a header would change'],
  ['file:large', 'more than a header can carry'],
  ['file:../outside', 'a name that climbs'],
  ['file:a/../../outside', 'a name that climbs later'],
  ['file:link-out', 'a link that leads out'],
  ['file:directory', 'a directory'],
  ['file:/etc/hostname', 'an absolute name'],
  ['store:main:KEY', 'a slot that was never set'],
  ['store:../main:KEY', 'an instance that climbs'],
  ['vault:x', 'a kind of slot that there is not'],
];
for (const [ref, why] of refusals)
  test(`${ref} is refused: ${why}`, (t) => {
    const { root, directory, write, secrets } = slots(t);
    write('empty', '\n');
    write('control', 'a\tb');
    write('umlaut', 'schlüssel');
    write('large', 'x'.repeat(10_000));
    mkdirSync(join(directory, 'directory'));
    symlinkSync(join(root, 'outside'), join(directory, 'link-out'));
    assert.throws(
      () => secrets.read(ref),
      (error) => error instanceof OutriderError && error.code === 'CREDENTIAL_UNAVAILABLE',
    );
  });

test('a refusal names the slot in its cause alone, and no value anywhere', (t) => {
  const { secrets } = slots(t);
  try {
    secrets.read('env:TWO_LINES');
    assert.fail('it was read');
  } catch (error) {
    assert.ok(error instanceof OutriderError);
    assert.ok(!error.message.includes('TWO_LINES') && !error.message.includes('injected'));
    assert.ok(!JSON.stringify(error.cause).includes('injected'));
  }
});
