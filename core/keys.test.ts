import assert from 'node:assert/strict';
import { lstatSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import {
  auditSigningKey,
  createKeySet,
  keySetPaths,
  readSigningKey,
  readTrustedIssuers,
} from './keys.ts';
import { LOCAL_PRINCIPAL } from './principal.ts';
import { temporaryDirectory } from './testing/directory.ts';
import {
  AssertionSigner,
  AssertionVerifier,
  ExecutionSigner,
  ExecutionVerifier,
} from './tokens.ts';

function temporary(t: TestContext): string {
  return join(temporaryDirectory(t), 'keys');
}

const alice = { ...LOCAL_PRINCIPAL, issuer: 'https://idp.test', subject: 'alice' };

test('a key set is five private files, and no private key is in a public list', (t) => {
  const directory = temporary(t);
  const paths = createKeySet(directory);
  assert.deepEqual(paths, keySetPaths(directory));
  assert.equal(readdirSync(directory).length, 5);
  for (const path of Object.values(paths)) assert.equal(lstatSync(path).mode & 0o777, 0o600);
  for (const path of [paths.assertionIssuers, paths.executionIssuers])
    assert.doesNotMatch(readFileSync(path, 'utf8'), /"d":/);
});

test('the keys of one set work together, and with no other set', async (t) => {
  const paths = createKeySet(temporary(t));
  const others = createKeySet(temporary(t));
  const jwt = await new AssertionSigner(readSigningKey(paths.gateway)).sign(alice);
  const verify = (file: string) => new AssertionVerifier(readTrustedIssuers(file)).verify(jwt);
  assert.equal((await verify(paths.assertionIssuers)).principal.subject, 'alice');
  await assert.rejects(verify(others.assertionIssuers), { code: 'UNAUTHENTICATED' });
  await assert.rejects(verify(paths.executionIssuers), { code: 'UNAUTHENTICATED' });
});

test('the local key vouches for the local principal alone; the gateway for any that it has verified', async (t) => {
  const paths = createKeySet(temporary(t));
  const verifier = new AssertionVerifier(readTrustedIssuers(paths.assertionIssuers));
  const local = new AssertionSigner(readSigningKey(paths.local));
  await assert.doesNotReject(verifier.verify(await local.sign(LOCAL_PRINCIPAL)));
  await assert.rejects(verifier.verify(await local.sign(alice)), { code: 'UNAUTHENTICATED' });
});

test('the runner signs executions and nothing else that is believed', async (t) => {
  const paths = createKeySet(temporary(t));
  const key = readSigningKey(paths.runner);
  const { jwt } = await new ExecutionSigner(key).sign({
    sandboxId: 's',
    execId: 'e',
    role: 'r',
    policyDigest: 'd',
    proof: 'p',
    startedAt: 0,
    requestId: 'q',
  });
  await assert.doesNotReject(
    new ExecutionVerifier(readTrustedIssuers(paths.executionIssuers)).verify(jwt),
  );
  await assert.rejects(
    new AssertionVerifier(readTrustedIssuers(paths.assertionIssuers)).verify(
      await new AssertionSigner(key).sign(alice),
    ),
    { code: 'UNAUTHENTICATED' },
  );
});

test('a new set replaces the one before', (t) => {
  const directory = temporary(t);
  const first = readSigningKey(createKeySet(directory).runner);
  assert.notEqual(readSigningKey(createKeySet(directory).runner).jwk.kid, first.jwk.kid);
});

test('an audit key is made once and stays, with its public half beside it', (t) => {
  const directory = temporary(t);
  const key = auditSigningKey(directory, 'proxy');
  assert.deepEqual(auditSigningKey(directory, 'proxy'), key);
  assert.notEqual(auditSigningKey(directory, 'runner').jwk.kid, key.jwk.kid);
  const [published] = readTrustedIssuers(join(directory, 'proxy.audit.pub.json'));
  assert.equal(published?.keys[0]?.kid, key.jwk.kid);
  assert.equal(published?.keys[0]?.d, undefined);
});

test('a file that is missing, damaged or of another kind is a configuration error without its content', (t) => {
  const paths = createKeySet(temporary(t));
  writeFileSync(`${paths.gateway}.broken`, '{"secret');
  writeFileSync(`${paths.gateway}.list`, '[{"issuer":5}]');
  for (const path of [`${paths.gateway}.no`, `${paths.gateway}.broken`, paths.assertionIssuers])
    assert.throws(() => readSigningKey(path), {
      code: 'CONFIG_INVALID',
      message: /cannot be read|is not a signing key/,
    });
  for (const path of [`${paths.gateway}.broken`, `${paths.gateway}.list`, paths.runner])
    assert.throws(
      () => readTrustedIssuers(path),
      (error: Error & { code?: string }) => {
        assert.equal(error.code, 'CONFIG_INVALID');
        assert.doesNotMatch(error.message, /secret|"d"/);
        return true;
      },
    );
});
