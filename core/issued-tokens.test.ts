import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ISSUED_TOKEN_MAX_CHARACTERS, issuedPrincipal, unverifiedIssuer } from './issued-tokens.ts';

const ISSUER = 'https://idp.example';
const encoded = (value: unknown): string =>
  Buffer.from(JSON.stringify(value)).toString('base64url');
const token = (payload: unknown): string => `e30.${encoded(payload)}.c2ln`;

for (const [text, answer, why] of [
  [token({ iss: ISSUER }), { issuer: ISSUER }, 'what it says'],
  [token({}), { issuer: '' }, 'it says nothing'],
  [token({ iss: [ISSUER] }), { issuer: '' }, 'a list is no issuer'],
  [token(null), { issuer: '' }, 'a payload that is no object'],
  ['opaque', { fault: 'jwt_encoding' }, 'no JWT'],
  ['a.b', { fault: 'jwt_encoding' }, 'two parts'],
  [`${token({ iss: ISSUER })}.e`, { fault: 'jwt_encoding' }, 'four parts'],
  ['e30.!.c2ln', { fault: 'jwt_encoding' }, 'no JSON'],
  [
    token({ iss: ISSUER, pad: 'x'.repeat(ISSUED_TOKEN_MAX_CHARACTERS) }),
    { fault: 'jwt_too_large' },
    'more than is parsed',
  ],
] as const)
  test(`the issuer that an unverified token claims: ${why}`, () => {
    assert.deepEqual(unverifiedIssuer(text), answer);
  });

const CLAIMS = { issuer: ISSUER, groupsClaim: 'groups', tenantClaim: 'org', claims: ['team', 'n'] };

test('a principal is what the configured claims say, and text alone', () => {
  assert.deepEqual(
    issuedPrincipal({ sub: 'alice', groups: ['data'], org: 'acme', team: 'red', n: 5 }, CLAIMS),
    {
      issuer: ISSUER,
      subject: 'alice',
      tenant: 'acme',
      groups: ['data'],
      claims: { team: 'red' },
    },
  );
  assert.equal(issuedPrincipal({ sub: 'alice', org: ['acme'] }, CLAIMS)?.tenant, '');
  const { tenantClaim: _, ...without } = CLAIMS;
  assert.equal(issuedPrincipal({ sub: 'alice', org: 'acme' }, without)?.tenant, '');
});

for (const [claim, groups, why] of [
  [['a', 'b'], ['a', 'b'], 'a list'],
  ['a', ['a'], 'one text'],
  [undefined, [], 'none'],
  [['', 'a', ''], ['a'], 'an empty one is nobody'],
  ['', [], 'an empty text'],
  [['a', 5, null, ['b']], ['a'], 'what is no text'],
] as const)
  test(`the groups of a principal: ${why}`, () => {
    assert.deepEqual(issuedPrincipal({ sub: 'alice', groups: claim }, CLAIMS)?.groups, groups);
  });

test('a token without a subject names nobody', () => {
  assert.equal(issuedPrincipal({}, CLAIMS), undefined);
  for (const sub of ['', 5, ['alice']]) {
    const sent: Record<string, unknown> = { sub };
    assert.equal(issuedPrincipal(sent, CLAIMS), undefined);
  }
});
