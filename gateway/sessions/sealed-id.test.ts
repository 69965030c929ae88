import assert from 'node:assert/strict';
import { createSecretKey, randomBytes } from 'node:crypto';
import { test } from 'node:test';
import { LOCAL_PRINCIPAL } from '#core/principal';
import type { KeyRing, SessionKey } from './key-ring.ts';
import { openSession, SEALED_MAX_CHARACTERS, sealSession } from './sealed-id.ts';

const newKey = (kid: string): SessionKey => ({ kid, key: createSecretKey(randomBytes(32)) });

function ringOf(...keys: [SessionKey, ...SessionKey[]]): KeyRing {
  return { first: keys[0], find: (kid) => keys.find((key) => key.kid === kid) };
}

const KEY = newKey('k1');
const RING = ringOf(KEY);
const BINDING = { principal: LOCAL_PRINCIPAL, route: '/mcp' };
const CONTENT = {
  backend: 'http://127.0.0.1:8790/mcp',
  upstreamId: '5f4dcc3b-5aa7-65d6-1d83-27deb882cf99',
  expiresAt: 10_000,
  client: {
    protocolVersion: '2025-11-25',
    capabilities: { elicitation: {}, sampling: {} },
    clientInfo: { name: 'a client', version: '1.0' },
  },
};
const ID = sealSession(CONTENT, BINDING, RING);

test('what was sealed opens, is short, and is what a header may carry', () => {
  assert.deepEqual(openSession(ID, BINDING, RING, 0), CONTENT);
  assert.match(ID, /^[\x21-\x7e]+$/);
  assert.ok(ID.length <= 600, `${ID.length} characters`);
});

test('an id says nothing to whoever has no key, and no two are alike', () => {
  assert.notEqual(sealSession(CONTENT, BINDING, RING), ID);
  const bytes = Buffer.from(ID.split('.')[2] ?? '', 'base64url').toString('latin1');
  for (const secret of ['127.0.0.1', '5f4dcc3b', 'a client'])
    assert.ok(!bytes.includes(secret) && !ID.includes(secret), secret);
});

const withPrincipal = (over: object) => ({
  ...BINDING,
  principal: { ...LOCAL_PRINCIPAL, ...over },
});
const OTHERS = [
  ['another subject', withPrincipal({ subject: 'other' })],
  ['another issuer', withPrincipal({ issuer: 'https://idp.example' })],
  ['another tenant', withPrincipal({ tenant: 'other' })],
  ['another route', { ...BINDING, route: '/other' }],
] as const;

for (const [what, binding] of OTHERS)
  test(`an id does not open for ${what}`, () => {
    assert.equal(openSession(ID, binding, RING, 0), 'forged');
    assert.deepEqual(openSession(sealSession(CONTENT, binding, RING), binding, RING, 0), CONTENT);
  });

test('other groups and claims do not end a session: tokens are renewed', () => {
  const binding = withPrincipal({ groups: ['new'], claims: { a: 'b' } });
  assert.deepEqual(openSession(ID, binding, RING, 0), CONTENT);
});

test('an id is of use until the moment at which it expires', () => {
  assert.deepEqual(openSession(ID, BINDING, RING, 9_999), CONTENT);
  assert.equal(openSession(ID, BINDING, RING, 10_000), 'expired');
});

test('no single changed character opens', () => {
  for (let at = 0; at < ID.length; at++) {
    const changed = `${ID.slice(0, at)}${ID[at] === 'A' ? 'B' : 'A'}${ID.slice(at + 1)}`;
    assert.equal(typeof openSession(changed, BINDING, RING, 0), 'string', `character ${at}`);
  }
});

/** The same bytes: base64url has bits to spare in its last character, and takes other alphabets. */
function otherSpellings(id: string): string[] {
  const [, , text = ''] = id.split('.');
  const bytes = Buffer.from(text, 'base64url');
  return 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_'
    .split('')
    .map((last) => id.slice(0, -1) + last)
    .concat(`${id}=`, `${id} `, `o1.k1.${bytes.toString('base64')}`)
    .filter((spelling) => spelling !== id);
}

test('one session has one spelling', () => {
  const unpadded = sealSession({ ...CONTENT, upstreamId: 'a+' }, BINDING, RING);
  for (const id of [ID, unpadded])
    for (const spelling of otherSpellings(id))
      assert.equal(typeof openSession(spelling, BINDING, RING, 0), 'string', spelling);
});

const MALFORMED = [
  '',
  'x',
  '5f4dcc3b-5aa7-65d6-1d83-27deb882cf99',
  'o1.k1.',
  'o1.k1.AAAA',
  'o2.k1.AAAA',
  'o1..AAAA',
  `o1.k1.${'A'.repeat(SEALED_MAX_CHARACTERS)}`,
];
for (const id of MALFORMED)
  test(`"${id.slice(0, 40)}" is no id`, () => {
    assert.equal(openSession(id, BINDING, RING, 0), 'malformed');
  });

test('keys rotate without a session lost: an old one still opens, and no longer once it is gone', () => {
  const next = newKey('k2');
  const both = ringOf(next, KEY);
  assert.deepEqual(openSession(ID, BINDING, both, 0), CONTENT);
  const renewed = sealSession(CONTENT, BINDING, both);
  assert.match(renewed, /^o1\.k2\./);
  assert.deepEqual(openSession(renewed, BINDING, ringOf(KEY, next), 0), CONTENT);
  assert.equal(openSession(ID, BINDING, ringOf(next), 0), 'unknown_key');
  assert.equal(openSession(ID, BINDING, ringOf(newKey('k1')), 0), 'forged');
});

test('an id opens within 20 µs', () => {
  const batch = () => {
    const started = performance.now();
    for (let n = 0; n < 200; n++) openSession(ID, BINDING, RING, 0);
    return ((performance.now() - started) * 1_000) / 200;
  };
  const best = Math.min(...Array.from({ length: 50 }, batch));
  assert.ok(best <= 20, `${best.toFixed(1)} µs`);
});
