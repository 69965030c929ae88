import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { OutriderError } from '#core/errors';
import { createSecrets } from './secrets.ts';

function slots(t: TestContext) {
  const root = mkdtempSync(join(tmpdir(), 'outrider-secrets-'));
  t.after(() => rmSync(root, { recursive: true }));
  const directory = join(root, 'secrets');
  mkdirSync(directory);
  writeFileSync(join(root, 'outside'), 'outside-secret');
  const write = (name: string, value: string) => writeFileSync(join(directory, name), value);
  const env = { API_KEY: 'from-env', EMPTY: '', TWO_LINES: 'a\r\nx-injected: 1' };
  return { root, directory, write, secrets: createSecrets({ directory, env }) };
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

test('a file that changed is read again', (t) => {
  const { write, secrets } = slots(t);
  write('password', 'first');
  assert.equal(secrets.read('file:password'), 'first');
  write('password', 'second!');
  assert.equal(secrets.read('file:password'), 'second!');
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
  ['store:main:KEY', 'the store, which is not in this version'],
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
