import assert from 'node:assert/strict';
import { test } from 'node:test';
import { LOCAL_PRINCIPAL } from '#core/principal';
import { AssertionVerifier, generateSigningKey, publicIssuer } from '#core/tokens';
import { createAssertions } from './assertions.ts';

const key = generateSigningKey('outrider:gateway');

test('an assertion names its principal and is used again for 30 s, not longer', async () => {
  let now = Date.now();
  const assertionFor = createAssertions(key, () => now);
  const first = await assertionFor(LOCAL_PRINCIPAL);
  const { principal } = await new AssertionVerifier([publicIssuer(key)]).verify(first);
  assert.deepEqual(principal, LOCAL_PRINCIPAL);
  now += 29_999;
  assert.equal(await assertionFor({ ...LOCAL_PRINCIPAL }), first);
  now += 1;
  assert.notEqual(await assertionFor(LOCAL_PRINCIPAL), first);
});

const DIFFERENT = [
  ['issuer', { issuer: 'https://idp.example' }],
  ['subject', { subject: 'other' }],
  ['tenant', { tenant: 'other' }],
  ['groups', { groups: ['admins'] }],
  ['claims', { claims: { team: 'data' } }],
] as const;

for (const [what, change] of DIFFERENT)
  test(`a principal with another ${what} is never given a cached assertion`, async () => {
    const assertionFor = createAssertions(key);
    const first = await assertionFor(LOCAL_PRINCIPAL);
    assert.notEqual(await assertionFor({ ...LOCAL_PRINCIPAL, ...change }), first);
  });
