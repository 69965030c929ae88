import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { LOCAL_PRINCIPAL } from '#core/principal';
import { respelled, withPart } from '#core/testing/spelling';
import { AssertionSigner, AssertionVerifier, generateSigningKey, publicIssuer } from '#core/tokens';
import {
  BOUNDARY,
  datasource,
  egressPolicy,
  type Mesh,
  ROLE,
  startMesh,
  startOrigin,
  type TokenChanges,
} from './testing.ts';

const ADMIN = {
  kind: 'Role',
  metadata: { name: 'admin' },
  spec: { members: [{ issuer: 'https://idp.example', subject: 'root' }], sandbox: {} },
};
const TARGET = '/http/api/v1';

async function mesh(t: TestContext) {
  const origin = await startOrigin(t);
  const rule = { id: 'api', datasource: 'http/api' };
  const started = await startMesh(t, {
    documents: [
      ROLE,
      ADMIN,
      BOUNDARY,
      egressPolicy([rule]),
      egressPolicy([rule], 'admin'),
      datasource('http', 'api', `http://127.0.0.1:${origin.port}`),
    ],
  });
  return { origin, mesh: started };
}

test('a token with both signatures right is let through', async (t) => {
  const {
    origin,
    mesh: { ask, records },
  } = await mesh(t);
  assert.equal((await ask(TARGET)).status, 200);
  assert.equal(origin.seen.length, 1);
  const record = records().findLast(({ event }) => event === 'request');
  assert.equal(record?.['subject'], 'local');
  assert.equal(record?.['role'], 'analyst');
  assert.equal(record?.['execId'], 'exec-test');
  assert.equal(record?.['requestId'], 'req-test');
  assert.equal(record?.['verdict'], 'allow');
});

const stranger = generateSigningKey('outrider:runner');
const forger = generateSigningKey('outrider:local');
const root = { ...LOCAL_PRINCIPAL, issuer: 'https://idp.example', subject: 'root', tenant: '' };
const now = () => Math.floor(Date.now() / 1_000);

const forged: readonly (readonly [string, (mesh: Mesh) => TokenChanges, number, string])[] = [
  ['a token that no known runner signed', () => ({ runnerKey: stranger }), 401, 'UNAUTHENTICATED'],
  [
    'a runner that signs the proof itself',
    (m) => ({ assertionKey: { ...m.runnerKey, issuer: 'outrider:local' } }),
    401,
    'UNAUTHENTICATED',
  ],
  [
    'a proof by a key that only has the right name',
    () => ({ assertionKey: forger }),
    401,
    'UNAUTHENTICATED',
  ],
  [
    'the local issuer vouching for another identity provider',
    () => ({ principal: root, role: 'admin' }),
    401,
    'UNAUTHENTICATED',
  ],
  [
    'a principal of the gateway with a role that is not its own',
    (m) => ({ assertionKey: m.gatewayKey, principal: { ...root, subject: 'eve' }, role: 'admin' }),
    403,
    'ROLE_DENIED',
  ],
  ['a role that the principal does not have', () => ({ role: 'admin' }), 403, 'ROLE_DENIED'],
  ['a role that no document names', () => ({ role: 'owner' }), 403, 'ROLE_DENIED'],
  [
    'another role than the gateway granted',
    (m) => ({ assertionKey: m.gatewayKey, principal: root, role: 'admin', grantedRole: 'analyst' }),
    403,
    'ROLE_DENIED',
  ],
  [
    'a proof that was not valid when the exec began',
    () => ({ startedAt: now() - 3_600 }),
    401,
    'UNAUTHENTICATED',
  ],
  ['an exec that begins in the future', () => ({ startedAt: now() + 30 }), 401, 'UNAUTHENTICATED'],
  ['another policy than ours', () => ({ policyDigest: 'f'.repeat(64) }), 409, 'POLICY_MISMATCH'],
  [
    'a token bound to a certificate, on a socket that shows none',
    () => ({ certificateThumbprint: 'abc' }),
    401,
    'UNAUTHENTICATED',
  ],
];
for (const [what, changes, status, code] of forged)
  test(`${what} is refused, and nothing is dialled`, async (t) => {
    const { origin, mesh: started } = await mesh(t);
    const got = await started.ask(TARGET, { token: await started.token(changes(started)) });
    assert.equal(got.status, status, got.body);
    assert.equal(got.error.code, code);
    assert.equal(origin.connections(), 0);
    assert.equal(started.records().filter(({ event }) => event === 'request').length, 1);
  });

test('the same principal with its own role is let through', async (t) => {
  const { mesh: started } = await mesh(t);
  const token = await started.token({
    assertionKey: started.gatewayKey,
    principal: root,
    role: 'admin',
    grantedRole: 'admin',
  });
  assert.equal((await started.ask(TARGET, { token })).status, 200);
});

test('an exec that has lasted longer than its role allows is over, however fresh its token', async (t) => {
  const { mesh: started } = await mesh(t);
  const began = Date.now();
  t.mock.timers.enable({ apis: ['Date'], now: began });
  const { proof } = await new AssertionVerifier([publicIssuer(started.localKey)]).verify(
    await new AssertionSigner(started.localKey).sign(LOCAL_PRINCIPAL),
  );
  const askAt = async (seconds: number) => {
    t.mock.timers.setTime(began + seconds * 1_000);
    const token = await started.token({ proof, startedAt: Math.floor(began / 1_000) });
    return started.ask(TARGET, { token });
  };
  // The role's time-out is two minutes, and there is one of grace.
  assert.equal((await askAt(0)).status, 200);
  assert.equal((await askAt(175)).status, 200);
  const late = await askAt(182);
  assert.equal(late.status, 401);
  assert.equal(late.headers['x-outrider-reason'], 'jwt_exp');
});

test('a token is refused when it has expired, cached or not', async (t) => {
  const { mesh: started } = await mesh(t);
  const began = Date.now();
  t.mock.timers.enable({ apis: ['Date'], now: began });
  const token = await started.token();
  assert.equal((await started.ask(TARGET, { token })).status, 200);
  t.mock.timers.setTime(began + 70_000);
  const got = await started.ask(TARGET, { token });
  assert.equal(got.status, 401);
  assert.equal(got.headers['x-outrider-reason'], 'jwt_exp');
});

const malformed: readonly (readonly [
  string,
  (token: string) => Record<string, string | string[]>,
  string,
])[] = [
  ['no token', () => ({}), 'jwt_missing'],
  [
    'two tokens, both valid',
    (token) => ({ 'proxy-authorization': [`Bearer ${token}`, `Bearer ${token}`] }),
    'jwt_header_duplicate',
  ],
  ['a token as Authorization', (token) => ({ authorization: `Bearer ${token}` }), 'jwt_missing'],
  ['another scheme', (token) => ({ 'proxy-authorization': `Basic ${token}` }), 'jwt_encoding'],
  [
    'a token with padding',
    (token) => ({ 'proxy-authorization': `Bearer ${token}=` }),
    'jwt_encoding',
  ],
  [
    'a cut signature',
    (token) => ({ 'proxy-authorization': `Bearer ${token.slice(0, -10)}` }),
    'jwt_invalid',
  ],
  [
    'another spelling of the same signature',
    (token) => ({ 'proxy-authorization': `Bearer ${withPart(token, 2, respelled)}` }),
    'jwt_encoding',
  ],
  ['no signature', (token) => ({ 'proxy-authorization': `Bearer ${unsigned(token)}` }), 'jwt_none'],
];
for (const [what, headers, reason] of malformed)
  test(`${what} is refused, also when the right token is cached`, async (t) => {
    const { mesh: started } = await mesh(t);
    const token = await started.token();
    assert.equal((await started.ask(TARGET, { token })).status, 200);
    const got = await started.ask(TARGET, { token: '', headers: headers(token) });
    assert.equal(got.status, 401);
    assert.equal(got.headers['x-outrider-reason'], reason);
  });

function unsigned(token: string): string {
  const [, payload = ''] = token.split('.');
  const header = { alg: 'none', typ: 'outrider-execution+jwt' };
  return `${Buffer.from(JSON.stringify(header)).toString('base64url')}.${payload}.`;
}
