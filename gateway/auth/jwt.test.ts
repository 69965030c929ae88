import assert from 'node:assert/strict';
import { createHmac, type webcrypto } from 'node:crypto';
import { renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { exportJWK, exportSPKI, generateKeyPair, SignJWT } from 'jose';
import { loadConfig } from '#core/config';
import { readTrustedIssuers } from '#core/keys';
import { silentLogger } from '#core/log';
import { AssertionVerifier } from '#core/tokens';
import { gatewaySpec, type IssuerConfig } from '../config.ts';
import { startGateway, startHttp, temporaryDirectory } from '../testing.ts';
import { createKeySource } from './key-source.ts';

const ISSUER = 'https://idp.example';
const AUDIENCE = 'https://mcp.example/mcp';

interface Signer {
  readonly alg: string;
  readonly kid: string;
  readonly privateKey: webcrypto.CryptoKey;
  readonly publicKey: webcrypto.CryptoKey;
}

async function signer(alg: string, kid: string): Promise<Signer> {
  return { alg, kid, ...(await generateKeyPair(alg, { extractable: true })) };
}

async function jwks(...signers: readonly Signer[]): Promise<string> {
  const keys = await Promise.all(
    signers.map(async ({ alg, kid, publicKey }) => ({
      ...(await exportJWK(publicKey)),
      alg,
      kid,
      use: 'sig',
    })),
  );
  return JSON.stringify({ keys });
}

const rsa = await signer('RS256', 'rsa');
const ec = await signer('ES256', 'ec');
const ed = await signer('EdDSA', 'ed');
const rs512 = await signer('RS512', 'rsa-512');
const stranger = await signer('RS256', 'rsa');

const good = () => ({
  iss: ISSUER,
  aud: AUDIENCE,
  sub: 'alice',
  exp: Math.floor(Date.now() / 1000) + 300,
  scope: 'openid mcp:call',
  groups: ['data'],
  org: 'acme',
  team: 'reports',
});

function sign(key: Signer, claims: Record<string, unknown>, header: Record<string, unknown> = {}) {
  return new SignJWT(claims)
    .setProtectedHeader({ alg: key.alg, kid: key.kid, ...header })
    .sign(key.privateKey);
}

/** A token put together by hand, for what no library signs. */
function handmade(header: object, claims: object, signature: (input: string) => string): string {
  const input = [header, claims]
    .map((part) => Buffer.from(JSON.stringify(part)).toString('base64url'))
    .join('.');
  return `${input}.${signature(input)}`;
}

function issuer(t: TestContext, given: Record<string, unknown>): IssuerConfig {
  const root = temporaryDirectory(t);
  const entry = { issuer: ISSUER, audience: AUDIENCE, ...given };
  const env = { OUTRIDER_GATEWAY_ISSUERS: JSON.stringify([entry]) };
  const spec = gatewaySpec({ runtime: root, state: root });
  const { issuers } = loadConfig('gateway', spec, { argv: [], env });
  assert.ok(issuers[0]);
  return issuers[0];
}

/** A gateway that trusts one issuer, before a server that says who called. */
async function startTrusting(t: TestContext, given: Record<string, unknown>, keyUrl?: string) {
  const url =
    keyUrl ??
    (await startHttp(t, async (_, response) => void response.end(await jwks(rsa, ec, ed, rs512))));
  let assertion = '';
  const server = await startHttp(t, (request, response) => {
    assertion = request.headers.authorization?.replace('Bearer ', '') ?? '';
    request.resume();
    response.end('{}');
  });
  const gateway = await startGateway(t, [server], {
    issuers: [issuer(t, { jwks: url, ...given })],
  });
  return {
    ...gateway,
    call: (token: string) =>
      fetch(`${gateway.origin}/mcp`, {
        method: 'POST',
        headers: { authorization: `Bearer ${token}` },
        body: '{}',
      }),
    caller: async () => {
      const verifier = new AssertionVerifier(readTrustedIssuers(gateway.assertionIssuers));
      return (await verifier.verify(assertion)).principal;
    },
  };
}

for (const key of [rsa, ec, ed])
  test(`B2: a good token is let in: ${key.alg}`, async (t) => {
    const gateway = await startTrusting(t, {
      scopes: ['mcp:call'],
      tenantClaim: 'org',
      claims: ['team', 'absent'],
    });
    assert.equal((await gateway.call(await sign(key, good()))).status, 200);
    assert.deepEqual(await gateway.caller(), {
      issuer: ISSUER,
      subject: 'alice',
      tenant: 'acme',
      groups: ['data'],
      claims: { team: 'reports' },
    });
  });

const now = () => Math.floor(Date.now() / 1000);
const REFUSED: readonly (readonly [string, () => Promise<string> | string])[] = [
  ['another issuer', () => sign(rsa, { ...good(), iss: 'https://other.example' })],
  ['no issuer', () => sign(rsa, { ...good(), iss: undefined })],
  ['another audience', () => sign(rsa, { ...good(), aud: 'https://other.example' })],
  ['no audience', () => sign(rsa, { ...good(), aud: undefined })],
  ['expired', () => sign(rsa, { ...good(), exp: now() - 60 })],
  ['without an end', () => sign(rsa, { ...good(), exp: undefined })],
  ['not valid yet', () => sign(rsa, { ...good(), nbf: now() + 60 })],
  ['no subject', () => sign(rsa, { ...good(), sub: undefined })],
  ['bound to a key', () => sign(rsa, { ...good(), cnf: { jkt: 'thumbprint' } })],
  ['bound to a certificate', () => sign(rsa, { ...good(), cnf: { 'x5t#S256': 'thumbprint' } })],
  ['bound to nobody knows what', () => sign(rsa, { ...good(), cnf: null })],
  ['a proof of a key', () => sign(rsa, good(), { typ: 'dpop+jwt' })],
  ['a logout token', () => sign(rsa, good(), { typ: 'logout+jwt' })],
  ['an empty subject', () => sign(rsa, { ...good(), sub: '' })],
  ["a stranger's key under a known name", () => sign(stranger, good())],
  ['an unknown key', () => sign(rsa, good(), { kid: 'other' })],
  ['a key of another kind', () => sign(rsa, good(), { kid: 'ec' })],
  ['alg none', () => handmade({ alg: 'none', kid: 'rsa' }, good(), () => '')],
  [
    'HS256 with the public key as its secret',
    async () => {
      const secret = await exportSPKI(rsa.publicKey);
      return handmade({ alg: 'HS256', kid: 'rsa' }, good(), (input) =>
        createHmac('sha256', secret).update(input).digest('base64url'),
      );
    },
  ],
  [
    'a key that the token brings along',
    async () => sign(stranger, good(), { kid: 'new', jwk: await exportJWK(stranger.publicKey) }),
  ],
  [
    'claims that were altered',
    async () => {
      const [head, , signature] = (await sign(rsa, good())).split('.');
      const claims = Buffer.from(JSON.stringify({ ...good(), sub: 'root' })).toString('base64url');
      return [head, claims, signature].join('.');
    },
  ],
  ['two parts', () => 'a.b'],
  ['not a token', () => 'x'.repeat(40)],
  ['an algorithm that this issuer may not use', () => sign(rs512, good())],
];

for (const [what, make] of REFUSED)
  test(`B2: a bad token is 401: ${what}`, async (t) => {
    const gateway = await startTrusting(t, {});
    const response = await gateway.call(await make());
    assert.equal(response.status, 401);
    assert.match(response.headers.get('www-authenticate') ?? '', /^Bearer .*error="invalid_token"/);
    assert.equal((await gateway.call(await sign(rsa, good()))).status, 200, 'control');
  });

for (const typ of ['at+jwt', 'application/at+jwt', 'JWT'])
  test(`B2: a token of the type ${typ} is let in`, async (t) => {
    const gateway = await startTrusting(t, {});
    assert.equal((await gateway.call(await sign(rsa, good(), { typ }))).status, 200);
  });

for (const [what, claims, status] of [
  ['all scopes', { scope: 'a b c' }, 200],
  ['all scopes, as `scp`', { scope: undefined, scp: ['a', 'b'] }, 200],
  ['one scope short', { scope: 'a' }, 403],
  ['no scope', { scope: undefined }, 403],
  ['a scope that only begins well', { scope: 'a bb' }, 403],
] as const)
  test(`B2: a token with ${what} is ${status} where two are demanded`, async (t) => {
    const gateway = await startTrusting(t, { scopes: ['a', 'b'] });
    const response = await gateway.call(await sign(rsa, { ...good(), ...claims }));
    assert.equal(response.status, status);
    if (status === 403)
      assert.equal(
        response.headers.get('www-authenticate'),
        'Bearer realm="outrider", error="insufficient_scope", scope="a b"',
      );
    const { headers } = await gateway.call('not.a.token');
    assert.match(headers.get('www-authenticate') ?? '', /error="invalid_token".*, scope="a b"$/);
  });

test('an issuer may be given another algorithm, and then has that one only', async (t) => {
  const gateway = await startTrusting(t, { algorithms: ['RS512'] });
  assert.equal((await gateway.call(await sign(rs512, good()))).status, 200);
  assert.equal((await gateway.call(await sign(rsa, good()))).status, 401);
});

test('without a token the challenge is bare, and the local token still works', async (t) => {
  const gateway = await startTrusting(t, {});
  const response = await fetch(`${gateway.origin}/mcp`, { method: 'POST', body: '{}' });
  assert.equal(response.status, 401);
  assert.equal(response.headers.get('www-authenticate'), 'Bearer realm="outrider"');
  assert.equal((await gateway.call(gateway.token)).status, 200);
  assert.equal((await gateway.caller()).subject, 'local');
});

/** Lets time pass, on the clock of the day and on the one that only goes forward. */
function clockOf(t: TestContext): (ms: number) => void {
  t.mock.timers.enable({ apis: ['Date'], now: Date.now() });
  const real = performance.now.bind(performance);
  let skipped = 0;
  t.mock.method(performance, 'now', () => real() + skipped);
  return (ms) => {
    skipped += ms;
    t.mock.timers.tick(ms);
  };
}

test('B2: rotated keys are picked up from the URL, and the old ones end', async (t) => {
  const pass = clockOf(t);
  const next = await signer('RS256', 'rsa-2');
  let served = await jwks(rsa);
  let fetches = 0;
  const url = await startHttp(t, (_, response) => {
    fetches += 1;
    response.end(served);
  });
  const gateway = await startTrusting(t, {}, url);
  assert.equal((await gateway.call(await sign(rsa, good()))).status, 200);
  served = await jwks(next);
  assert.equal((await gateway.call(await sign(next, good()))).status, 401, 'within the cooldown');
  assert.equal(fetches, 1);
  pass(5_001);
  assert.equal((await gateway.call(await sign(next, good()))).status, 200);
  assert.equal((await gateway.call(await sign(rsa, good()))).status, 401);
});

test('B2: while the URL does not answer, known keys are good for jwksMaxAge, unknown ones for nothing, and few ask it', async (t) => {
  const pass = clockOf(t);
  const served = await jwks(rsa);
  let [fetches, away] = [0, false];
  const url = await startHttp(t, (_, response) => {
    fetches += 1;
    response.writeHead(away ? 503 : 200).end(served);
  });
  const gateway = await startTrusting(t, {}, url);
  const status = async (key: Signer) => (await gateway.call(await sign(key, good()))).status;
  assert.equal(await status(rsa), 200);
  away = true;
  for (let minute = 1; minute < 60; minute++) {
    pass(60_000);
    assert.equal(await status(rsa), 200, `after ${minute} min`);
    assert.deepEqual(await Promise.all([ec, ec, ed].map(status)), [502, 502, 502]);
  }
  assert.ok(fetches <= 60, `${fetches} in an hour`);
  pass(60_000);
  assert.equal(await status(rsa), 502, 'after an hour');
  away = false;
  pass(5_000);
  assert.equal(await status(rsa), 200, 'control: it is back');
});

test('B2: rotated keys are picked up from a file, and a broken file changes nothing', async (t) => {
  t.mock.timers.enable({ apis: ['Date'], now: Date.now() });
  const path = join(temporaryDirectory(t), 'jwks.json');
  const put = (content: string) => {
    writeFileSync(`${path}.new`, content);
    renameSync(`${path}.new`, path);
    t.mock.timers.tick(1_001);
  };
  const next = await signer('ES256', 'ec-2');
  put(await jwks(ec));
  const gateway = await startTrusting(t, {}, path);
  assert.equal((await gateway.call(await sign(ec, good()))).status, 200);
  put('{"keys": ');
  assert.equal((await gateway.call(await sign(ec, good()))).status, 200);
  put(await jwks(next));
  assert.equal((await gateway.call(await sign(next, good()))).status, 200);
  assert.equal((await gateway.call(await sign(ec, good()))).status, 401);
});

test("keys that cannot be fetched are no fault of the caller's", async (t) => {
  const gateway = await startTrusting(t, {}, 'http://127.0.0.1:1/jwks');
  const response = await gateway.call(await sign(rsa, good()));
  assert.equal(response.status, 502);
  assert.equal(response.headers.get('www-authenticate'), null);
  assert.equal(response.headers.get('retry-after'), '5', 'when they may be fetched again');
});

test('keys over plain http are refused off loopback, allowed on it', () => {
  const source = (url: string) => () =>
    createKeySource({ issuer: ISSUER, jwks: url, jwksCooldown: 1, jwksMaxAge: 1 }, silentLogger);
  assert.throws(source('http://idp.example/jwks'), { code: 'CONFIG_INVALID' });
  assert.throws(source('ftp://idp.example/jwks'), { code: 'CONFIG_INVALID' });
  assert.doesNotThrow(source('https://idp.example/jwks'));
  assert.doesNotThrow(source('http://[::1]:1/jwks'));
});

test('of several issuers, each is held to its own keys and audience', async (t) => {
  const root = temporaryDirectory(t);
  writeFileSync(join(root, 'one'), await jwks(rsa));
  writeFileSync(join(root, 'two'), await jwks(ec));
  const server = await startHttp(t, (request, response) => {
    request.resume();
    response.end('{}');
  });
  const two = { issuer: 'https://two.example', audience: 'two' };
  const { origin } = await startGateway(t, [server], {
    issuers: [
      issuer(t, { jwks: join(root, 'one') }),
      issuer(t, { ...two, jwks: join(root, 'two') }),
    ],
  });
  const status = async (key: Signer, claims: Record<string, unknown>) => {
    const headers = { authorization: `Bearer ${await sign(key, { ...good(), ...claims })}` };
    return (await fetch(`${origin}/mcp`, { method: 'POST', headers, body: '{}' })).status;
  };
  assert.equal(await status(rsa, {}), 200);
  assert.equal(await status(ec, { iss: two.issuer, aud: two.audience }), 200);
  assert.equal(await status(ec, {}), 401);
  assert.equal(await status(rsa, { iss: two.issuer, aud: two.audience }), 401);
  assert.equal(await status(ec, { iss: two.issuer }), 401);
});
