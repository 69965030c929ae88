import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { exportJWK, generateKeyPair, SignJWT } from 'jose';
import { loadConfig } from '#core/config';
import { type GatewayConfig, gatewaySpec } from '../config.ts';
import { startGateway, startHttp, temporaryDirectory } from '../testing.ts';
import { readStaticTokens } from './static-tokens.ts';

const echo = (t: TestContext) =>
  startHttp(t, (request, response) => {
    request.resume();
    response.end('{}');
  });

const call = (origin: string, token?: string) =>
  fetch(`${origin}/mcp`, {
    method: 'POST',
    headers: token === undefined ? {} : { authorization: `Bearer ${token}` },
    body: '{}',
  });

/** `issuers` as an operator writes them. */
function issuersOf(...issuers: readonly object[]): GatewayConfig['issuers'] {
  const spec = gatewaySpec({ runtime: '/nowhere', state: '/nowhere' });
  return loadConfig('gateway', spec, { argv: ['--issuers', JSON.stringify(issuers)], env: {} })
    .issuers;
}

async function startIssuer(t: TestContext, document: (url: string) => object) {
  const { publicKey, privateKey } = await generateKeyPair('ES256');
  const jwks = { keys: [{ ...(await exportJWK(publicKey)), kid: 'k', alg: 'ES256' }] };
  const url: string = await startHttp(t, (request, response) => {
    const known: Record<string, unknown> = {
      '/.well-known/openid-configuration': document(url),
      '/keys': jwks,
    };
    const found = known[request.url ?? ''];
    response.writeHead(found ? 200 : 404).end(JSON.stringify(found ?? {}));
  });
  const sign = (issuer: string) =>
    new SignJWT({ scope: 'mcp:call' })
      .setProtectedHeader({ alg: 'ES256', kid: 'k' })
      .setIssuer(issuer)
      .setAudience('gateway')
      .setSubject('alice')
      .setExpirationTime('5m')
      .sign(privateKey);
  return { url, sign };
}

test('without jwks an issuer says itself where its keys are', async (t) => {
  const { url, sign } = await startIssuer(t, (issuer) => ({ issuer, jwks_uri: `${issuer}/keys` }));
  const issuers = issuersOf({ issuer: url, audience: 'gateway' });
  const { origin } = await startGateway(t, [await echo(t)], { issuers });
  assert.equal((await call(origin, await sign(url))).status, 200);
  assert.equal((await call(origin, await sign('https://other.example'))).status, 401);
});

const DISCOVERIES = [
  [() => ({ issuer: 'https://other.example', jwks_uri: 'http://127.0.0.1:1/' }), 'CONFIG_INVALID'],
  [(issuer: string) => ({ issuer }), 'CONFIG_INVALID'],
  [(issuer: string) => ({ issuer, jwks_uri: 'http://idp.example/keys' }), 'CONFIG_INVALID'],
] as const;

for (const [document, code] of DISCOVERIES)
  test(`an issuer that says ${JSON.stringify(document('itself'))} keeps the gateway from starting`, async (t) => {
    const { url } = await startIssuer(t, document);
    const issuers = issuersOf({ issuer: url, audience: 'gateway' });
    await assert.rejects(startGateway(t, [await echo(t)], { issuers }), { code });
  });

test('an issuer that cannot be reached keeps the gateway from starting', async (t) => {
  const issuers = issuersOf({ issuer: 'http://127.0.0.1:1', audience: 'gateway' });
  await assert.rejects(startGateway(t, [await echo(t)], { issuers }), {
    code: 'ERR_OAUTH_PROVIDER',
  });
});

test('a client without a token is told where to get one, at the URL that it was given', async (t) => {
  const issuers = issuersOf(
    {
      issuer: 'https://a.example',
      jwks: 'https://a.example/keys',
      audience: 'x',
      scopes: ['mcp:call'],
    },
    { issuer: 'https://b.example', jwks: 'https://b.example/keys', audience: 'x' },
  );
  const publicUrl = new URL('https://mcp.example/team/mcp');
  const { origin } = await startGateway(t, [await echo(t)], { issuers, publicUrl });
  const refused = await call(origin);
  assert.equal(refused.status, 401);
  assert.equal(
    refused.headers.get('www-authenticate'),
    'Bearer realm="outrider", resource_metadata="https://mcp.example/.well-known/oauth-protected-resource/team/mcp", scope="mcp:call"',
  );
  const wellKnown = '/.well-known/oauth-protected-resource';
  for (const path of [wellKnown, `${wellKnown}/team/mcp`, `${wellKnown}/mcp`]) {
    const response = await fetch(origin + path);
    assert.equal(response.status, 200, path);
    assert.deepEqual(await response.json(), {
      resource: 'https://mcp.example/team/mcp',
      authorization_servers: ['https://a.example', 'https://b.example'],
      bearer_methods_supported: ['header'],
      scopes_supported: ['mcp:call'],
    });
  }
  const without = await startGateway(t, [await echo(t)], { issuers });
  assert.equal((await fetch(without.origin + wellKnown)).status, 404);
});

const token = randomBytes(32).toString('base64url');
const sha256 = createHash('sha256').update(token).digest('hex');

function tokenFile(t: TestContext, value: unknown): string {
  const path = join(temporaryDirectory(t), 'tokens.json');
  writeFileSync(path, JSON.stringify(value));
  return path;
}

test('a static token lets in whom its file names, until the end of its day', async (t) => {
  const staticTokens = tokenFile(t, { tokens: [{ sha256, subject: 'ci', groups: ['bots'] }] });
  const { origin } = await startGateway(t, [await echo(t)], { staticTokens });
  assert.equal((await call(origin, token)).status, 200);
  assert.equal((await call(origin, `${token}x`)).status, 401);
  assert.equal((await call(origin, sha256)).status, 401, 'what the file holds is no token');
  const verdict = readStaticTokens(staticTokens)(token);
  assert.deepEqual(verdict?.ok && verdict.principal, {
    issuer: 'outrider:static',
    subject: 'ci',
    tenant: '',
    groups: ['bots'],
    claims: {},
  });
});

test('a static token is over when its day is', (t) => {
  t.mock.timers.enable({ apis: ['Date'], now: Date.parse('2027-06-30T23:59:59.999Z') });
  const read = readStaticTokens(
    tokenFile(t, { tokens: [{ sha256, subject: 'ci', expires: '2027-06-30' }] }),
  );
  assert.equal(read(token)?.ok, true);
  t.mock.timers.tick(1);
  assert.deepEqual(read(token), { ok: false, reason: 'expired', scopes: [] });
});

const BAD = [
  {},
  { tokens: [{ sha256 }] },
  { tokens: [{ sha256: token, subject: 'ci' }] },
  { tokens: [{ sha256, subject: '' }] },
  { tokens: [{ sha256, subject: 'ci', expires: 'never' }] },
  { tokens: [{ sha256, subject: 'ci', group: ['typo'] }] },
];
for (const value of BAD)
  test(`static tokens ${JSON.stringify(value).slice(0, 60)} keep the gateway from starting`, (t) => {
    assert.throws(() => readStaticTokens(tokenFile(t, value)), { code: 'CONFIG_INVALID' });
  });

test('limits are each principal’s own, and the answer says when to come back', async (t) => {
  const staticTokens = tokenFile(t, { tokens: [{ sha256, subject: 'ci' }] });
  const gateway = await startGateway(t, [await echo(t)], { staticTokens, principalRate: 10 });
  // Of ten in a minute, ten may come at once.
  for (let n = 0; n < 10; n++) assert.equal((await call(gateway.origin, token)).status, 200);
  const refused = await call(gateway.origin, token);
  assert.equal(refused.status, 429);
  assert.ok(Number(refused.headers.get('retry-after')) >= 1);
  assert.equal(Object(await refused.json()).error.data.code, 'RATE_LIMITED');
  assert.equal((await call(gateway.origin, gateway.token)).status, 200);
});
