import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { JWTPayload } from 'jose';
import { AuditChain } from '#core/audit';
import { postForm } from '#core/testing/post-form';
import { startIssuer, type TestIssuer } from './issuers/testing.ts';
import {
  BOUNDARY,
  datasource,
  egressPolicy,
  type Mesh,
  startMesh,
  startOrigin,
} from './testing.ts';

const AUDIENCE = 'https://proxy.example';
const COOLDOWN_MS = 100;
const GRANT = 'urn:ietf:params:oauth:grant-type:token-exchange';
const JWT_TYPE = 'urn:ietf:params:oauth:token-type:jwt';
const TARGET = '/http/api/v1';
const now = () => Math.floor(Date.now() / 1_000);

const role = (name: string, members: readonly unknown[]) => ({
  kind: 'Role',
  metadata: { name },
  spec: { members, sandbox: { timeout: '2m' } },
});

/** A proxy that takes tokens of one issuer: alice of the group `data` is an analyst; `both` has two roles. */
async function mesh(
  t: TestContext,
  settings: Record<string, unknown> = {},
  further: readonly string[] = [],
) {
  const issuer = await startIssuer(t, AUDIENCE);
  const origin = await startOrigin(t);
  const rule = { id: 'api', datasource: 'http/api' };
  const started = await startMesh(t, {
    config: {
      issuers: [
        {
          issuer: issuer.url,
          audience: AUDIENCE,
          groups: ['data', 'ops'],
          jwksCooldown: `${COOLDOWN_MS}ms`,
          ...settings,
        },
        ...further.map((url) => ({ issuer: url, audience: AUDIENCE })),
      ],
    },
    documents: [
      role(
        'analyst',
        [issuer.url, ...further].map((url) => ({ issuer: url, group: 'data' })),
      ),
      role('operator', [{ issuer: issuer.url, group: 'ops' }]),
      BOUNDARY,
      egressPolicy([rule]),
      datasource('http', 'api', `http://127.0.0.1:${origin.port}`),
    ],
  });
  return { issuer, origin, started };
}

/** Asks for an exchange, as a runner of a local agent would. */
async function exchange({ addresses: { listen } }: Mesh, form: Record<string, string> | string) {
  assert.ok(listen.kind === 'unix');
  const body =
    typeof form === 'string'
      ? form
      : new URLSearchParams({ grant_type: GRANT, subject_token_type: JWT_TYPE, ...form });
  const answer = await postForm(listen.path, '/.outrider/token', body);
  return { ...answer, reason: answer.headers['x-outrider-reason'] };
}

test('F4 jwt: an access token is exchanged for one of 60 s that is good here, for one role, on behalf of its user', async (t) => {
  const { issuer, origin, started } = await mesh(t);
  const { status, body } = await exchange(started, {
    subject_token: await issuer.token(),
    scope: 'role:analyst',
    exec: 'exec-laptop',
    sandbox: 'sbx-laptop',
  });
  assert.equal(status, 200, JSON.stringify(body));
  assert.equal(body['issued_token_type'], JWT_TYPE);
  assert.equal(body['expires_in'], 60);
  assert.equal(body['scope'], 'role:analyst');
  const token = String(body['access_token']);
  assert.equal((await started.ask(TARGET, { token })).status, 200);
  assert.equal(origin.seen.length, 1);
  const records = started.records();
  const record = records.findLast(({ event }) => event === 'request');
  assert.equal(record?.['issuer'], issuer.url);
  assert.equal(record?.['subject'], 'alice');
  assert.equal(record?.['execId'], 'exec-laptop');
  const exchanged = records.find(({ event }) => event === 'auth');
  assert.equal(exchanged?.['verdict'], 'allow');
  assert.equal(exchanged?.['subject'], 'alice');
});

/** The first lines of the chain of a sandbox's sidecar, as they are delivered. */
function delivery(sandbox: string, records: number): string {
  const lines: string[] = [];
  const sink = { append: (line: string) => void lines.push(`${line}\n`) };
  const chain = new AuditChain('sidecar', sink, { writer: `sc-${sandbox}` });
  for (let count = 1; count < records; count++) chain.append({ event: 'request' });
  return lines.join('');
}

test('F4 jwt: who got a token in exchange delivers the records of no sandbox of another', async (t) => {
  const { issuer, started } = await mesh(t);
  const tokenOf = async (sub: string, sandbox: string) => {
    const { body } = await exchange(started, {
      subject_token: await issuer.token({ sub }),
      sandbox,
    });
    return String(body['access_token']);
  };
  const deliver = async (token: string, body: string) => {
    const headers = { 'content-type': 'application/x-ndjson' };
    const got = await started.ask('/.outrider/audit', { method: 'POST', headers, token, body });
    return got.error?.code ?? got.status;
  };
  for (const [sandbox, owner, others] of [
    ['sbx-mesh', (at: string) => started.token({ sandboxId: at }), ['alice', 'bob']],
    ['sbx-alice', (at: string) => tokenOf('alice', at), ['bob']],
  ] as const) {
    const body = delivery(sandbox, 3);
    const first = body.slice(0, body.indexOf('\n') + 1);
    assert.equal(await deliver(await owner(sandbox), first), 200);
    for (const sub of others)
      assert.equal(await deliver(await tokenOf(sub, sandbox), body), 'EGRESS_DENIED', sub);
    await started.restart();
    for (const sub of others)
      assert.equal(await deliver(await tokenOf(sub, sandbox), body), 'EGRESS_DENIED', 'a restart');
    assert.equal(await deliver(await owner(sandbox), body), 200, 'control: its own go on');
  }
  const ofAlice = await tokenOf('alice', 'sbx-alice');
  assert.equal(
    await deliver(await started.token({ sandboxId: 'sbx-alice' }), delivery('sbx-alice', 1)),
    'EGRESS_DENIED',
  );
  assert.notEqual(await deliver(ofAlice, delivery('sbx-mesh', 1)), 200, 'under another name');
});

for (const [what, groups, scope, message] of [
  ['a role of others', ['data'], 'role:operator', /not one of the principal/],
  ['one of two roles without saying which', ['data', 'ops'], '', /several roles/],
  ['a way in that its groups do not give', ['none'], '', /none of the groups/],
] as const)
  test(`F7: a refused exchange is recorded with who asked, and for what: ${what}`, async (t) => {
    const { issuer, started } = await mesh(t);
    const { status, body } = await exchange(started, {
      subject_token: await issuer.token({ groups }),
      scope,
      sandbox: 'sbx-laptop',
      exec: 'exec-laptop',
      request: 'req-laptop',
    });
    assert.ok(status >= 400);
    assert.match(String(body['error_description']), message);
    const record = started.records().findLast(({ event }) => event === 'auth');
    assert.deepEqual(
      ['verdict', 'issuer', 'subject', 'requestId', 'sandboxId', 'execId'].map(
        (at) => record?.[at],
      ),
      ['deny', issuer.url, 'alice', 'req-laptop', 'sbx-laptop', 'exec-laptop'],
    );
  });

test('F7: of a refused exchange whose token is not good nobody is recorded: it could say anybody', async (t) => {
  const { issuer, started } = await mesh(t);
  await exchange(started, { subject_token: await issuer.token({ aud: 'https://wiki.example' }) });
  const record = started.records().findLast(({ event }) => event === 'auth');
  assert.deepEqual([record?.['reason'], record?.['subject']], ['jwt_aud', undefined]);
});

test("405 at the proxy's own addresses says which method is taken (RFC 9110 15.5.6)", async (t) => {
  const { issuer, started } = await mesh(t);
  const { body } = await exchange(started, { subject_token: await issuer.token() });
  const token = String(body['access_token']);
  for (const [path, method, allowed] of [
    ['/.outrider/token', 'GET', 'POST'],
    ['/.outrider/audit', 'GET', 'POST'],
    ['/datasources', 'DELETE', 'GET'],
  ] as const) {
    const got = await started.ask(path, { method, token });
    assert.deepEqual([path, got.status, got.headers.allow], [path, 405, allowed]);
  }
});

test('an access token itself is no execution token', async (t) => {
  const { issuer, origin, started } = await mesh(t);
  const got = await started.ask(TARGET, { token: await issuer.token() });
  assert.equal(got.status, 401);
  assert.equal(origin.seen.length, 0);
});

const stranger = await startStranger();
const refusals: readonly (readonly [
  string,
  (issuer: TestIssuer) => Promise<string> | string,
  string,
  number,
])[] = [
  ['expired', (issuer) => issuer.token({ iat: now() - 600, exp: now() - 60 }), 'jwt_exp', 400],
  ['without an end', (issuer) => issuer.token({ exp: undefined }), 'jwt_exp_missing', 400],
  ['not valid yet', (issuer) => issuer.token({ nbf: now() + 60 }), 'jwt_nbf', 400],
  ['of another issuer', (issuer) => issuer.token({ iss: 'https://other.example' }), 'jwt_iss', 400],
  [
    'for another audience',
    (issuer) => issuer.token({ aud: 'https://wiki.example' }),
    'jwt_aud',
    400,
  ],
  ['without a subject', (issuer) => issuer.token({ sub: '' }), 'jwt_invalid', 400],
  ['by an unknown key', (issuer) => issuer.token({}, { kid: 'made-up' }), 'jwt_kid_unknown', 400],
  [
    'of another type',
    (issuer) => issuer.token({}, { typ: 'outrider-execution+jwt' }),
    'jwt_typ',
    400,
  ],
  ['by a stranger in its name', (issuer) => stranger(issuer.url), 'jwt_invalid', 400],
  ['that is none', () => 'nonsense', 'jwt_encoding', 400],
  [
    'of a user of another group',
    (issuer) => issuer.token({ groups: ['sales'] }),
    'role_denied',
    403,
  ],
];
for (const [what, forge, reason, status] of refusals)
  test(`F4 jwt: a token ${what} is refused and recorded, and the right one is exchanged`, async (t) => {
    const { issuer, started } = await mesh(t);
    const refused = await exchange(started, { subject_token: await forge(issuer) });
    assert.equal(refused.status, status, JSON.stringify(refused.body));
    assert.equal(refused.reason, reason);
    assert.equal(refused.body['access_token'], undefined);
    const record = started.records().findLast(({ event }) => event === 'auth');
    assert.equal(record?.['verdict'], 'deny');
    assert.equal(record?.['reason'], reason);
    assert.equal((await exchange(started, { subject_token: await issuer.token() })).status, 200);
  });

test('a role is one of the user’s own: asked for where there are several, never another', async (t) => {
  const { issuer, started } = await mesh(t);
  const both = { groups: ['data', 'ops'] };
  const ask = async (claims: JWTPayload, scope?: string) => {
    const form = { subject_token: await issuer.token(claims), ...(scope ? { scope } : {}) };
    const { status, body } = await exchange(started, form);
    return [status, body['scope'] ?? body['error']];
  };
  assert.deepEqual(await ask(both), [400, 'invalid_scope']);
  assert.deepEqual(await ask(both, 'role:operator'), [200, 'role:operator']);
  assert.deepEqual(await ask({}), [200, 'role:analyst']);
  assert.deepEqual(await ask({}, 'role:operator'), [403, 'invalid_scope']);
  assert.deepEqual(await ask({}, 'role:none'), [403, 'invalid_scope']);
  assert.deepEqual(await ask({}, 'openid'), [400, 'invalid_request']);
});

for (const [what, form] of [
  ['another grant', { grant_type: 'password' }],
  ['another subject type', { subject_token_type: 'urn:ietf:params:oauth:token-type:saml2' }],
  ['another audience', { audience: 'https://elsewhere.example' }],
  ['an actor', { actor_token: 'x' }],
  ['an id that could be something else', { sandbox: '../x' }],
  ['a policy that is no digest', { policy: 'latest' }],
  ['another phase', { phase: 'root' }],
] as const)
  test(`a request with ${what} is 400`, async (t) => {
    const { issuer, started } = await mesh(t);
    const subject = { subject_token: await issuer.token() };
    const { status, body } = await exchange(started, { ...subject, ...form });
    assert.equal(status, 400);
    assert.equal(body['error'], 'invalid_request');
    assert.equal((await exchange(started, subject)).status, 200, 'control');
  });

test('a parameter that is given twice is 400', async (t) => {
  const { issuer, started } = await mesh(t);
  const form = new URLSearchParams({ grant_type: GRANT, subject_token_type: JWT_TYPE });
  form.append('subject_token', await issuer.token());
  form.append('subject_token', await issuer.token({ sub: 'bob' }));
  assert.equal((await exchange(started, form.toString())).status, 400);
});

test('J033: while the keys cannot be had it is 503 and not the token’s fault; afterwards it is exchanged', async (t) => {
  const { issuer, started } = await mesh(t);
  for (const how of ['down', 'garbage', 'other-issuer'] as const) {
    issuer.behave(how);
    await sleep(COOLDOWN_MS);
    const refused = await exchange(started, { subject_token: await issuer.token() });
    assert.equal(refused.status, 503, how);
    assert.equal(refused.reason, 'jwt_jwks_unavailable');
    assert.equal(refused.body['error'], 'temporarily_unavailable');
  }
  issuer.behave('well');
  await sleep(COOLDOWN_MS);
  assert.equal((await exchange(started, { subject_token: await issuer.token() })).status, 200);
  // Known keys go on working while it is away again.
  issuer.behave('down');
  assert.equal((await exchange(started, { subject_token: await issuer.token() })).status, 200);
});

test('a key that the issuer rotated in is taken, and one that it rotated out is not', async (t) => {
  const { issuer, started } = await mesh(t);
  const old = await issuer.token();
  assert.equal((await exchange(started, { subject_token: old })).status, 200);
  await issuer.rotate('second', true);
  await sleep(COOLDOWN_MS);
  assert.equal((await exchange(started, { subject_token: await issuer.token() })).status, 200);
  assert.equal((await exchange(started, { subject_token: old })).reason, 'jwt_kid_unknown');
});

test('of several issuers each vouches for its own users alone', async (t) => {
  const second = await startIssuer(t, AUDIENCE);
  const { issuer, started } = await mesh(t, {}, [second.url]);
  assert.equal((await exchange(started, { subject_token: await second.token() })).status, 200);
  const forged = await second.token({ iss: issuer.url });
  assert.equal((await exchange(started, { subject_token: forged })).status, 400);
});

test('without issuers there is no exchange', async (t) => {
  const origin = await startOrigin(t);
  const started = await startMesh(t, {
    documents: [
      role('analyst', [{ issuer: 'outrider:local' }]),
      BOUNDARY,
      egressPolicy([{ id: 'api', datasource: 'http/api' }]),
      datasource('http', 'api', `http://127.0.0.1:${origin.port}`),
    ],
  });
  assert.equal((await exchange(started, { subject_token: 'a.b.c' })).status, 401);
});

/** Signs in the name of any issuer, with a key of its own under a known name. */
async function startStranger(): Promise<(issuer: string) => Promise<string>> {
  const { generateKeyPair, SignJWT } = await import('jose');
  const { privateKey } = await generateKeyPair('ES256');
  return (issuer) =>
    new SignJWT({ iss: issuer, aud: AUDIENCE, sub: 'alice', groups: ['data'], exp: now() + 60 })
      .setProtectedHeader({ alg: 'ES256', kid: 'first' })
      .sign(privateKey);
}
