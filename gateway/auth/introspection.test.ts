import assert from 'node:assert/strict';
import { chmodSync, writeFileSync } from 'node:fs';
import type { ServerResponse } from 'node:http';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { type TestContext, test } from 'node:test';
import type { IssuerConfig } from '../config.ts';
import { startGateway, startHttp, temporaryDirectory } from '../testing.ts';
import { createIntrospection } from './introspection.ts';

const NOW_S = 1_000_000;
const good = { active: true, sub: 'alice', aud: 'gateway', exp: NOW_S + 20, scope: 'mcp:call' };

/** A provider that knows one token; `answer` can be changed, and whether it answers at all. */
async function startProvider(t: TestContext) {
  const provider = { asked: 0, down: false, answer: good as Record<string, unknown> };
  const reply = (response: ServerResponse, form: string, authorization: string | undefined) => {
    provider.asked += 1;
    const known = new URLSearchParams(form).get('token') === 'opaque-token';
    const right = authorization === `Basic ${Buffer.from('gw:s%26cret').toString('base64')}`;
    response.writeHead(provider.down ? 503 : right ? 200 : 401);
    response.end(JSON.stringify(known ? provider.answer : { active: false }));
  };
  const url = await startHttp(t, async (request, response) =>
    reply(response, await text(request), request.headers.authorization),
  );
  const secret = join(temporaryDirectory(t), 'secret');
  writeFileSync(secret, 's&cret\n', { mode: 0o600 });
  const issuer: IssuerConfig = {
    issuer: 'https://idp.example',
    jwks: undefined,
    audience: 'gateway',
    algorithms: ['ES256'],
    scopes: ['mcp:call'],
    groupsClaim: 'groups',
    tenantClaim: undefined,
    claims: [],
    jwksCooldown: 1,
    jwksMaxAge: 3_600_000,
    introspection: `${url}/introspect`,
    introspectionClient: 'gw',
    introspectionSecretFile: secret,
  };
  const clock = { now: NOW_S * 1_000 };
  return { provider, clock, issuer, verify: createIntrospection(issuer, () => clock.now) };
}

test('B4: a token that the provider calls active lets its subject in, any other nobody', async (t) => {
  const { verify } = await startProvider(t);
  const verdict = await verify('opaque-token');
  assert.equal(verdict.ok && verdict.principal.subject, 'alice');
  assert.equal(verdict.ok && verdict.principal.issuer, 'https://idp.example');
  assert.deepEqual(await verify('another'), { ok: false, reason: 'unknown', scopes: [] });
});

const REFUSED = [
  [{ ...good, active: 'true' }, 'unknown', 'active is a boolean'],
  [{ ...good, aud: 'elsewhere' }, 'claims', 'meant for another'],
  [{ ...good, aud: undefined }, 'claims', 'meant for nobody in particular'],
  [{ ...good, aud: ['a', 'gateway'] }, undefined, 'meant for several'],
  [{ ...good, iss: 'https://idp.example' }, undefined, 'it says who it is'],
  [{ ...good, iss: 'https://other.example' }, 'claims', 'issued by another'],
  [{ ...good, exp: NOW_S - 6 }, 'expired', 'over'],
  [{ ...good, nbf: NOW_S + 60 }, 'not_yet_valid', 'not yet'],
  [{ ...good, scope: 'other' }, 'scope', 'without the scope'],
  [{ ...good, sub: '' }, 'claims', 'nobody'],
  [{ ...good, cnf: { jkt: 'thumbprint' } }, 'bound', 'bound to a key'],
] as const;

for (const [answer, reason, why] of REFUSED)
  test(`an active token is ${reason ?? 'accepted'}: ${why}`, async (t) => {
    const { provider, verify } = await startProvider(t);
    provider.answer = answer;
    const verdict = await verify('opaque-token');
    assert.equal(verdict.ok ? undefined : verdict.reason, reason);
  });

test('B5: a yes is kept for 30 s and never past the end of the token', async (t) => {
  const { provider, clock, verify } = await startProvider(t);
  provider.answer = { ...good, exp: NOW_S + 600 };
  await verify('opaque-token');
  clock.now += 29_999;
  await verify('opaque-token');
  assert.equal(provider.asked, 1);
  clock.now += 1;
  provider.answer = { ...good, exp: NOW_S + 40 };
  await verify('opaque-token');
  assert.equal(provider.asked, 2);
  clock.now = (NOW_S + 40) * 1_000;
  await verify('opaque-token');
  assert.equal(provider.asked, 3);
});

test('B5: with the provider down, a token that it confirmed goes on, others are refused, and soon without asking', async (t) => {
  const { provider, clock, verify } = await startProvider(t);
  await verify('opaque-token');
  provider.down = true;
  for (let n = 0; n < 6; n++) {
    const verdict = await verify(`unseen-${n}`);
    assert.equal(verdict.ok ? undefined : verdict.reason, 'keys_unavailable');
  }
  assert.equal(provider.asked, 4, 'three failures, then it is left alone');
  assert.equal((await verify('opaque-token')).ok, true);
  clock.now = good.exp * 1_000;
  assert.equal((await verify('opaque-token')).ok, false, 'never past its end');
  clock.now += 30_000;
  await Promise.all([verify('a'), verify('b'), verify('c')]);
  assert.equal(provider.asked, 5, 'one question finds out whether it is back');
  clock.now += 30_000;
  provider.down = false;
  await verify('a');
  await Promise.all([verify('b'), verify('c')]);
  assert.equal(provider.asked, 8);
});

test('a caller who is refused because the provider is down is told so, and when to come back', async (t) => {
  const { provider, issuer } = await startProvider(t);
  const server = await startHttp(
    t,
    (request, response) => void request.resume().on('end', () => response.end('{}')),
  );
  const { origin } = await startGateway(t, [server], { issuers: [issuer] });
  const call = async (token: string) => {
    const response = await fetch(`${origin}/mcp`, {
      method: 'POST',
      headers: { authorization: `Bearer ${token}` },
      body: '{}',
    });
    const { error } = Object(await response.json());
    return [response.status, Number(response.headers.get('retry-after')), error?.message] as const;
  };
  provider.answer = { ...good, exp: Date.now() / 1_000 + 600 };
  assert.deepEqual(await call('opaque-token'), [200, 0, undefined], 'control');
  assert.deepEqual((await call('unknown')).slice(0, 2), [401, 0], 'control: it is up');
  provider.down = true;
  for (const [least, most] of [
    [1, 1],
    [1, 1],
    [20, 30], // it is left alone
    [20, 30],
  ] as const) {
    const [status, seconds, message] = await call('another');
    assert.deepEqual([status, message], [502, 'the identity provider cannot be asked']);
    assert.ok(seconds >= least && seconds <= most, `${seconds} s`);
  }
  const metrics = await (await fetch(`${origin}/metrics`)).text();
  assert.match(metrics, /auth_failures_total\{reason="keys_unavailable",part="gateway"\} 4/);
});

test('a secret that others may read, or none, keeps the gateway from starting', async (t) => {
  const { issuer } = await startProvider(t);
  assert.doesNotThrow(() => createIntrospection(issuer));
  const bad: Partial<IssuerConfig>[] = [
    { introspectionClient: undefined },
    { introspectionSecretFile: undefined },
    { introspectionSecretFile: '/does/not/exist' },
    { introspection: 'http://idp.example/introspect' },
    { introspection: 'no URL' },
  ];
  for (const over of bad)
    assert.throws(() => createIntrospection({ ...issuer, ...over }), { code: 'CONFIG_INVALID' });
  chmodSync(issuer.introspectionSecretFile ?? '', 0o644);
  assert.throws(() => createIntrospection(issuer), { code: 'CONFIG_INVALID' });
});
