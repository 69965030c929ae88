import assert from 'node:assert/strict';
import { createHmac, generateKeyPairSync } from 'node:crypto';
import { Socket } from 'node:net';
import { test } from 'node:test';
import { TLSSocket } from 'node:tls';
import { createDpopKey, type DpopKey, type DpopSays, dpopProof } from '#core/testing/dpop-proof';
import { createProofsOfKeys, DPOP_LIFE_S, type ProvenRequest, usedProofs } from './dpop.ts';
import { denialOf } from './refusal.ts';

// RFC 9449, 4.3, step by step.

/** When everything here happens. */
const NOW_S = 1_800_000_000;
const TOKEN = 'a.b.c';
const KEY = createDpopKey();
const RIGHT: DpopSays = { htm: 'GET', htu: 'http://127.0.0.1/http/api/v1', token: TOKEN };
const WANTED = { token: TOKEN, keyThumbprint: KEY.thumbprint };
const encode = (part: unknown) => Buffer.from(JSON.stringify(part)).toString('base64url');

/** Of a proxy that began so many seconds ago. */
function running({ forS = 60, max = 1_000 } = {}) {
  let ago = forS;
  const now = () => (NOW_S - ago) * 1_000;
  const by = createProofsOfKeys({ now, used: usedProofs({ now, max }) });
  ago = 0;
  return by;
}

function request(proofs: readonly string[], more: Partial<ProvenRequest> = {}): ProvenRequest {
  return {
    method: 'GET',
    url: '/http/api/v1?query=up',
    rawHeaders: ['Host', '127.0.0.1', ...proofs.flatMap((proof) => ['DPoP', proof])],
    socket: new Socket(),
    ...more,
  };
}

/** What became of a proof: that it is good, or the reason of the refusal. */
async function outcome(
  proofs: string | readonly string[],
  { by = running(), at = {}, wanted = WANTED }: OutcomeOptions = {},
): Promise<string> {
  try {
    await by.verify(request([proofs].flat(), at), wanted);
    return 'good';
  } catch (error) {
    return denialOf(error)?.reason ?? String(error);
  }
}

interface OutcomeOptions {
  readonly by?: ReturnType<typeof createProofsOfKeys>;
  readonly at?: Partial<ProvenRequest>;
  readonly wanted?: Parameters<ReturnType<typeof createProofsOfKeys>['verify']>[1];
}

const says = (more: Partial<DpopSays>, key: DpopKey = KEY) =>
  dpopProof(key, { ...RIGHT, ...more, claims: { iat: NOW_S, ...more.claims } });
const { d: secret } = KEY.privateKey.export({ format: 'jwk' });

const WRONG: readonly (readonly [what: string, proof: () => string | readonly string[]])[] = [
  ['none', () => []],
  ['two, both right', () => [says({}), says({})]],
  ['one that is no JWT', () => 'a.b'],
  ['two in one header', () => `${says({})}, ${says({})}`],
  ['one of 4 KiB', () => says({ claims: { more: 'x'.repeat(4_096) } })],
  ['the type of an access token', () => says({ header: { typ: 'at+jwt' } })],
  ['no type', () => says({ header: { typ: undefined } })],
  ['no key', () => says({ header: { jwk: undefined } })],
  ['a private key', () => says({ header: { jwk: { ...KEY.jwk, d: secret } } })],
  ['another key, which signed it', () => says({}, createDpopKey())],
  ['another key than the one that signed it', () => says({}, { ...createDpopKey(), jwk: KEY.jwk })],
  [
    'alg none',
    () => `${encode({ typ: 'dpop+jwt', alg: 'none', jwk: KEY.jwk })}.${says({}).split('.')[1]}.AA`,
  ],
  ['a MAC with the public key', macByPublicKey],
  ['an algorithm of another kind of key', () => says({ header: { alg: 'RS256' } })],
  ['an unknown crit', () => says({ header: { crit: ['x'], x: true } })],
  ['another method', () => says({ htm: 'POST' })],
  ['the method in small letters', () => says({ htm: 'get' })],
  ['another path', () => says({ htu: 'http://127.0.0.1/http/api/v2' })],
  ['another host', () => says({ htu: 'http://localhost/http/api/v1' })],
  ['another port', () => says({ htu: 'http://127.0.0.1:81/http/api/v1' })],
  ['https over a connection without TLS', () => says({ htu: 'https://127.0.0.1/http/api/v1' })],
  ['an address with a user', () => says({ htu: 'http://a@127.0.0.1/http/api/v1' })],
  ['no address', () => says({ htu: '/http/api/v1' })],
  ['no htu', () => says({ claims: { htu: undefined } })],
  ['no htm', () => says({ claims: { htm: undefined } })],
  ['another token', () => says({ token: 'a.b.d' })],
  ['no token', () => says({ claims: { ath: undefined } })],
  ['no jti', () => says({ claims: { jti: undefined } })],
  ['an empty jti', () => says({ claims: { jti: '' } })],
  ['a jti that is a number', () => says({ claims: { jti: 1 } })],
  ['no iat', () => says({ claims: { iat: undefined } })],
  ['an iat that is text', () => says({ claims: { iat: String(NOW_S) } })],
  ['an iat in the future', () => says({ claims: { iat: NOW_S + 6 } })],
  ['an iat too long ago', () => says({ claims: { iat: NOW_S - DPOP_LIFE_S - 1 } })],
  ['an end that has passed', () => says({ claims: { exp: NOW_S - 10 } })],
];

function macByPublicKey(): string {
  const [, payload] = says({}).split('.');
  const input = `${encode({ typ: 'dpop+jwt', alg: 'HS256', jwk: KEY.jwk })}.${payload}`;
  return `${input}.${createHmac('sha256', JSON.stringify(KEY.jwk)).update(input).digest('base64url')}`;
}

for (const [what, proof] of WRONG)
  test(`F4 dpop: a proof with ${what} is refused, and leaves room for the right one`, async () => {
    const by = running();
    assert.equal(await outcome(proof(), { by }), 'jwt_dpop_mismatch');
    assert.equal(await outcome(says({}), { by }), 'good');
  });

const RIGHTS: readonly (readonly [
  what: string,
  proof: () => string,
  at?: Partial<ProvenRequest>,
])[] = [
  ['query and fragment, which do not count', () => says({ htu: `${RIGHT.htu}?a=b#c` })],
  ['the default port', () => says({ htu: 'HTTP://127.0.0.1:80/http/api/v1' })],
  [
    'the target of a request in absolute form',
    () => says({ htu: 'https://api.example/v1' }),
    { url: 'https://api.example/v1?a=b' },
  ],
  [
    'the authority of a tunnel',
    () => says({ htm: 'CONNECT', htu: 'http://api.example:443' }),
    { method: 'CONNECT', url: 'api.example:443' },
  ],
  [
    'https over TLS',
    () => says({ htu: 'https://127.0.0.1/http/api/v1' }),
    { socket: new TLSSocket(new Socket()) },
  ],
  ['an iat that is as old as may be', () => says({ claims: { iat: NOW_S - DPOP_LIFE_S } })],
  ['an iat by a clock that is ahead', () => says({ claims: { iat: NOW_S + 5 } })],
];
for (const [what, proof, at = {}] of RIGHTS)
  test(`F4 dpop: a proof with ${what} is good`, async () => {
    assert.equal(await outcome(proof(), { at }), 'good');
  });

for (const [alg, type, options] of [
  ['RS256', 'rsa', { modulusLength: 2_048 }],
  ['EdDSA', 'ed25519', {}],
] as const)
  test(`F4 dpop: a key for ${alg} is as good as any`, async () => {
    const by = createProofsOfKeys(); // before the proof is made
    const { privateKey, publicKey } =
      type === 'rsa' ? generateKeyPairSync(type, options) : generateKeyPairSync(type);
    const { SignJWT, calculateJwkThumbprint } = await import('jose');
    const jwk = publicKey.export({ format: 'jwk' });
    const proof = await new SignJWT({ htm: RIGHT.htm, htu: RIGHT.htu })
      .setProtectedHeader({ typ: 'dpop+jwt', alg, jwk: { ...jwk } })
      .setIssuedAt()
      .setJti('one')
      .sign(privateKey);
    const got = await by.verify(request([proof]), {});
    assert.equal(got, await calculateJwkThumbprint({ ...jwk }));
  });

test('J027: a proof is good once, also when it comes twice at the same time, and another text with its jti is not', async () => {
  const by = running();
  const proof = says({ claims: { jti: 'one' } });
  const both = await Promise.all([outcome(proof, { by }), outcome(proof, { by })]);
  assert.deepEqual(both.toSorted(), ['good', 'jwt_dpop_replay']);
  const respelled = says({ claims: { jti: 'one', more: true } });
  assert.equal(await outcome(respelled, { by }), 'jwt_dpop_replay');
  assert.equal(await outcome(says({}), { by }), 'good', 'control: another proof');
});

test('J027: the jti of one key is not that of another', async () => {
  const by = running();
  const other = createDpopKey();
  const claims = { jti: 'one' };
  assert.equal(await outcome(says({ claims }), { by }), 'good');
  const wanted = { token: TOKEN, keyThumbprint: other.thumbprint };
  assert.equal(await outcome(says({ claims }, other), { by, wanted }), 'good');
});

test('J027: where no further proof can be remembered none is taken, and none is forgotten', async () => {
  let now = NOW_S * 1_000;
  const clock = () => now;
  const used = usedProofs({ now: clock, elapsed: clock, max: 1 });
  const by = createProofsOfKeys({ now: clock, used });
  const first = says({});
  assert.equal(await outcome(first, { by }), 'good');
  assert.equal(await outcome(says({}), { by }), 'rate_limited');
  assert.equal(await outcome(first, { by }), 'jwt_dpop_replay');
  now += (DPOP_LIFE_S + 10) * 1_000;
  assert.equal(await outcome(first, { by }), 'jwt_dpop_mismatch', 'it is too old by then');
  const fresh = says({ claims: { iat: Math.floor(now / 1_000) } });
  assert.equal(await outcome(fresh, { by }), 'good', 'control: there is room again');
});

test('J027: a proxy that has just started takes no proof from before, which the last one may have taken', async () => {
  const claims = { iat: NOW_S - 1 };
  assert.equal(await outcome(says({ claims }), { by: running({ forS: 0 }) }), 'jwt_dpop_mismatch');
  assert.equal(await outcome(says({ claims }), { by: running() }), 'good', 'control');
});
