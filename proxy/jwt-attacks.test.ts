import assert from 'node:assert/strict';
import {
  createHmac,
  createPrivateKey,
  createPublicKey,
  generateKeyPairSync,
  sign as signBytes,
} from 'node:crypto';
import { type TestContext, test } from 'node:test';
import { malleated, respelled, withPart } from '#core/testing/spelling';
import { generateSigningKey, type SigningKey } from '#core/tokens';
import {
  BOUNDARY,
  datasource,
  egressPolicy,
  type Mesh,
  ROLE,
  startMesh,
  startOrigin,
} from './testing.ts';

// The category `jwt` of the battery, held against the proxy's own door. Ids are those of the battery; what is refused because it comes
// again (J024, J027) is in restricted-tokens.test.ts.

const TARGET = '/http/api/v1';
const now = () => Math.floor(Date.now() / 1_000);
const encode = (part: unknown) =>
  Buffer.from(typeof part === 'string' ? part : JSON.stringify(part)).toString('base64url');
const decode = (part: string): Record<string, unknown> =>
  JSON.parse(Buffer.from(part, 'base64url').toString());

interface Parts {
  readonly header: Record<string, unknown>;
  readonly payload: Record<string, unknown>;
}

/** What the mesh's token says, to be said otherwise. */
async function partsOf(mesh: Mesh): Promise<Parts> {
  const [header = '', payload = ''] = (await mesh.token()).split('.');
  return { header: decode(header), payload: decode(payload) };
}

/** Signs whatever it is given with the runner's real key: what is refused then is refused for what it says. */
function signed(key: SigningKey, header: unknown, payload: unknown): string {
  const input = `${encode(header)}.${encode(payload)}`;
  const secret = createPrivateKey({ key: key.jwk, format: 'jwk' });
  return `${input}.${signBytes(null, Buffer.from(input), secret).toString('base64url')}`;
}

type Forge = (mesh: Mesh, parts: Parts) => Promise<string> | string;

const withHeader =
  (more: Record<string, unknown>): Forge =>
  (mesh, { header, payload }) =>
    signed(mesh.runnerKey, { ...header, ...more }, payload);
const withClaims =
  (more: Record<string, unknown> | (() => Record<string, unknown>)): Forge =>
  (mesh, { header, payload }) =>
    signed(mesh.runnerKey, header, { ...payload, ...(typeof more === 'function' ? more() : more) });
const without =
  (claim: string): Forge =>
  (mesh, { header, payload }) => {
    const { [claim]: _gone, ...rest } = payload;
    return signed(mesh.runnerKey, header, rest);
  };

const attacker = generateSigningKey('outrider:runner');
const { d: _private, ...attackersPublic } = attacker.jwk;

const CASES: readonly (readonly [id: string, what: string, reason: string, forge: Forge])[] = [
  [
    'J001',
    'alg none',
    'jwt_none',
    (_, { header, payload }) => `${encode({ ...header, alg: 'none' })}.${encode(payload)}.`,
  ],
  [
    'J001',
    'alg nOnE with a signature',
    'jwt_none',
    (mesh, parts) => withHeader({ alg: 'nOnE' })(mesh, parts),
  ],
  [
    'J002',
    'HS256 signed with the public key',
    'jwt_alg_confusion',
    (mesh, { header, payload }) => {
      const input = `${encode({ ...header, alg: 'HS256' })}.${encode(payload)}`;
      const key = createPublicKey({ key: { ...mesh.runnerKey.jwk }, format: 'jwk' });
      const secret = key.export({ type: 'spki', format: 'pem' });
      return `${input}.${createHmac('sha256', secret).update(input).digest('base64url')}`;
    },
  ],
  ['J003', 'kid = ../../dev/null', 'jwt_kid', withHeader({ kid: '../../dev/null' })],
  ['J004', 'kid with SQL', 'jwt_kid', withHeader({ kid: "x' UNION SELECT 'key" })],
  ['J005', 'jku to an attacker', 'jwt_jku', withHeader({ jku: 'https://attacker.example/jwks' })],
  ['J006', 'x5u to an attacker', 'jwt_x5u', withHeader({ x5u: 'https://attacker.example/x5u' })],
  [
    'J007',
    'an embedded jwk, and signed with it',
    'jwt_jwk',
    (_, { header, payload }) => signed(attacker, { ...header, jwk: attackersPublic }, payload),
  ],
  [
    'J008',
    'expired by 1 s beyond the tolerance',
    'jwt_exp',
    withClaims(() => ({ iat: now() - 66, exp: now() - 6 })),
  ],
  ['J009', 'no exp', 'jwt_exp_missing', without('exp')],
  ['J010', 'nbf in the future', 'jwt_nbf', withClaims(() => ({ nbf: now() + 30 }))],
  [
    'J011',
    'iat in the future',
    'jwt_iat',
    withClaims(() => ({ iat: now() + 30, exp: now() + 90 })),
  ],
  ['J012', 'no aud', 'jwt_aud', without('aud')],
  [
    'J013',
    'ours and another aud',
    'jwt_aud_multi',
    withClaims({ aud: ['outrider:proxy', 'outrider:mesh'] }),
  ],
  ['J014', 'the aud of the runner', 'jwt_aud', withClaims({ aud: 'outrider:mesh' })],
  ['J015', 'another iss', 'jwt_iss', withClaims({ iss: 'outrider:other' })],
  ['J016', 'typ JWT', 'jwt_typ', withHeader({ typ: 'JWT' })],
  ['J016', 'the typ of a proof', 'jwt_typ', withHeader({ typ: 'outrider-proof+jwt' })],
  ['J017', 'an unknown crit', 'jwt_crit', withHeader({ crit: ['x'], x: true })],
  ['J018', 'b64 = false', 'jwt_b64', withHeader({ b64: false, crit: ['b64'] })],
  [
    'J019',
    'a claim twice, as JSON takes it',
    'jwt_dup_json',
    (mesh, { header, payload }) => {
      const json = JSON.stringify(payload);
      return signed(mesh.runnerKey, header, `${json.slice(0, -1)},"role":"analyst"}`);
    },
  ],
  ['J020', '16 KiB', 'jwt_too_large', withClaims({ more: 'x'.repeat(12_000) })],
  [
    'J021',
    'another spelling of the payload',
    'jwt_encoding',
    async (mesh) => withPart(await mesh.token(), 1, respelled),
  ],
  [
    'J022',
    'ES256 with r = s = 0',
    'jwt_alg_confusion',
    (_, { header, payload }) =>
      `${encode({ ...header, alg: 'ES256' })}.${encode(payload)}.${Buffer.alloc(64).toString('base64url')}`,
  ],
  [
    'J022',
    'an EdDSA signature of zeros',
    'jwt_invalid',
    (_, { header, payload }) =>
      `${encode(header)}.${encode(payload)}.${Buffer.alloc(64).toString('base64url')}`,
  ],
  [
    'J023',
    'the same signature with the order of the group added to S',
    'jwt_invalid',
    async (mesh) => withPart(await mesh.token(), 2, malleated),
  ],
  [
    'J024',
    'for one request, at a proxy that is not this one any more',
    'jwt_jti_replay',
    withClaims({ once: 'the proxy before' }),
  ],
  [
    'J025',
    'bound to a certificate, over a connection that shows none',
    'jwt_cnf_mismatch',
    withClaims({ cnf: { 'x5t#S256': 'A'.repeat(43) } }),
  ],
  [
    'J026',
    'bound to a DPoP key, which nobody proves to have',
    'jwt_dpop_mismatch',
    withClaims({ cnf: { jkt: 'A'.repeat(43) } }),
  ],
  [
    'own',
    'bound in a way that is not known',
    'jwt_cnf_mismatch',
    withClaims({ cnf: { jku: 'https://attacker.example/key' } }),
  ],
  [
    'J031',
    'another role under the signature of a token that is remembered',
    'jwt_invalid',
    async (mesh, { payload }) => {
      const [header, , signature] = (await mesh.token()).split('.');
      return `${header}.${encode({ ...payload, role: 'admin' })}.${signature}`;
    },
  ],
  ['J032', 'a kid that is not ours any more', 'jwt_kid_unknown', withHeader({ kid: 'rotated' })],
  [
    'J032',
    'a key of another owner under a known kid',
    'jwt_invalid',
    (mesh, { header, payload }) =>
      signed({ ...attacker, issuer: mesh.runnerKey.issuer }, header, payload),
  ],
  [
    'own',
    "a runner's token signed with the gateway's key",
    'jwt_kid_unknown',
    (mesh, { header, payload }) =>
      signed(mesh.gatewayKey, { ...header, kid: mesh.gatewayKey.jwk.kid }, payload),
  ],
  [
    'own',
    'RS256 with a key of its own',
    'jwt_alg_confusion',
    (_, { header, payload }) => {
      const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
      const input = `${encode({ ...header, alg: 'RS256' })}.${encode(payload)}`;
      return `${input}.${signBytes('sha256', Buffer.from(input), privateKey).toString('base64url')}`;
    },
  ],
  [
    'own',
    'a life longer than a token has',
    'jwt_invalid',
    withClaims(() => ({ exp: now() + 3_600 })),
  ],
];

async function setUp(t: TestContext) {
  const origin = await startOrigin(t);
  const started = await startMesh(t, {
    documents: [
      ROLE,
      BOUNDARY,
      egressPolicy([{ id: 'api', datasource: 'http/api' }]),
      datasource('http', 'api', `http://127.0.0.1:${origin.port}`),
    ],
  });
  return { origin, started };
}

test('jwt attacks: each is 401 with its reason, nothing is dialled, and the right token goes on working', async (t) => {
  const { origin, started } = await setUp(t);
  for (const [id, what, reason, forge] of CASES)
    await t.test(`${id} ${what}`, async () => {
      const seen = origin.seen.length;
      const token = await forge(started, await partsOf(started));
      const before = process.cpuUsage();
      const got = await started.ask(TARGET, { token });
      const { user } = process.cpuUsage(before);
      assert.equal(got.status, 401, got.body);
      assert.equal(got.headers['x-outrider-reason'], reason);
      assert.equal(origin.seen.length, seen);
      assert.equal(started.records().at(-1)?.['reason'], reason);
      assert.ok(user < 2_000_000, `${user} µs of the processor`);
      // Control: what was forged from is let through, by the same way of signing.
      const { header, payload } = await partsOf(started);
      const right = signed(started.runnerKey, header, payload);
      assert.equal((await started.ask(TARGET, { token: right })).status, 200);
    });
});

test('J027: a DPoP proof beside a token that is bound to no key changes nothing: it is neither asked for nor sent on', async (t) => {
  const { origin, started } = await setUp(t);
  assert.equal((await started.ask(TARGET, { headers: { dpop: 'a.b.c' } })).status, 200);
  assert.equal(origin.seen[0]?.headers['dpop'], undefined);
});

test('J029: a token in the query is no token, and is not sent on', async (t) => {
  const { origin, started } = await setUp(t);
  const token = await started.token();
  const got = await started.ask(`${TARGET}?access_token=${token}`, { token: '' });
  assert.equal(got.status, 401);
  assert.equal(origin.seen.length, 0);
  assert.equal(JSON.stringify(started.records()).includes(token), false);
});
