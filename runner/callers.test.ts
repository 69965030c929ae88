import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import type { CallContext } from '#core/grpc';
import { LOCAL_PRINCIPAL } from '#core/principal';
import { AssertionSigner, AssertionVerifier, generateSigningKey, publicIssuer } from '#core/tokens';
import { callersBy } from './callers.ts';

const key = generateSigningKey('gateway-1');
const signer = new AssertionSigner(key);
const call = (bearer?: string): CallContext => ({
  requestId: 'req-1',
  bearer,
  signal: new AbortController().signal,
  deadline: Infinity,
});

/** A verifier that counts how often it is asked. */
function counting() {
  const verifier = new AssertionVerifier([publicIssuer(key)]);
  const verify = verifier.verify.bind(verifier);
  const count = { asked: 0 };
  verifier.verify = (jwt) => {
    count.asked += 1;
    return verify(jwt);
  };
  return { verifier, count };
}

test('an assertion is verified once in 30 s, and another one for itself', async () => {
  const { verifier, count } = counting();
  let nowMs = Date.now();
  const identify = callersBy(verifier, undefined, () => nowMs);
  const jwt = await signer.sign(LOCAL_PRINCIPAL);
  const first = await identify(call(jwt));
  assert.equal(await identify(call(jwt)), first);
  assert.equal(count.asked, 1);
  await identify(call(await signer.sign(LOCAL_PRINCIPAL)));
  assert.equal(count.asked, 2);
  nowMs += 30_000;
  await identify(call(jwt));
  assert.equal(count.asked, 3);
});

test('what was verified is not taken past its end', async (t) => {
  const { verifier } = counting();
  const identify = callersBy(verifier, undefined);
  t.mock.timers.enable({ apis: ['Date'], now: Date.now() });
  const jwt = await signer.sign(LOCAL_PRINCIPAL);
  t.mock.timers.tick(40_000);
  await identify(call(jwt)); // verified now, and kept for less than 30 s
  t.mock.timers.tick(26_000); // past its 60 s and the clock tolerance of 5
  await assert.rejects(identify(call(jwt)), { code: 'UNAUTHENTICATED' });
});

test('what was refused is refused again, in every spelling', async () => {
  const { verifier, count } = counting();
  const identify = callersBy(verifier, undefined);
  const jwt = await signer.sign(LOCAL_PRINCIPAL);
  await identify(call(jwt));
  const forged = `${jwt.slice(0, -20)}${jwt.at(-20) === 'A' ? 'B' : 'A'}${jwt.slice(-19)}`;
  for (const bad of ['', 'x', `${jwt}=`, forged])
    await assert.rejects(identify(call(bad)), { code: 'UNAUTHENTICATED' }, bad);
  assert.equal(count.asked, 5);
});

test('without a token the local principal calls, where there is one', async (t) => {
  const directory = mkdtempSync(join(tmpdir(), 'o-'));
  t.after(() => rmSync(directory, { recursive: true }));
  const file = join(directory, 'assertion');
  const { verifier } = counting();
  await assert.rejects(callersBy(verifier, file)(call()), { code: 'UNAUTHENTICATED' });
  writeFileSync(file, await signer.sign(LOCAL_PRINCIPAL));
  const { principal } = await callersBy(verifier, file)(call());
  assert.equal(principal.subject, LOCAL_PRINCIPAL.subject);
  await assert.rejects(callersBy(verifier, undefined)(call()), { code: 'UNAUTHENTICATED' });
});
