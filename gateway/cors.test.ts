import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import type { GatewayConfig } from './config.ts';
import { startGateway, startHttp } from './testing.ts';

const PAGE = 'https://app.example';
const WANTS = {
  'access-control-request-method': 'POST',
  'access-control-request-headers': 'authorization,content-type,mcp-param-sandbox,x-evil',
};

async function start(t: TestContext, over: Partial<GatewayConfig> = {}) {
  let heard = 0;
  const server = await startHttp(t, (request, response) => {
    heard += 1;
    request.resume();
    response.setHeader('mcp-session-id', 's').end('{"result":{}}');
  });
  const allowedOrigins = [PAGE, 'http://localhost:*'];
  const gateway = await startGateway(t, [server], {
    serversAre: 'foreign',
    allowedOrigins,
    ...over,
  });
  const ask = (method: string, headers: Record<string, string>, path = '/mcp') =>
    fetch(gateway.origin + path, {
      method,
      headers,
      ...(method === 'POST' && { body: '{"id":1,"method":"initialize"}' }),
    });
  return { ...gateway, ask, heard: () => heard };
}

const list = (response: Response, name: string) => response.headers.get(name)?.split(', ') ?? [];

test('A9: a page of an allowed origin is told that it may send a token, and no server hears of that', async (t) => {
  const { ask, heard } = await start(t);
  for (const origin of [PAGE, 'http://localhost:5173']) {
    const told = await ask('OPTIONS', { origin, ...WANTS });
    assert.equal(told.status, 204);
    assert.equal(told.headers.get('access-control-allow-origin'), origin);
    assert.equal(told.headers.get('access-control-allow-credentials'), null);
    assert.match(told.headers.get('vary') ?? '', /origin/i);
    for (const method of ['POST', 'GET', 'DELETE'])
      assert.ok(list(told, 'access-control-allow-methods').includes(method), method);
    const headers = list(told, 'access-control-allow-headers');
    for (const name of ['authorization', 'content-type', 'mcp-session-id', 'mcp-param-sandbox'])
      assert.ok(headers.includes(name), name);
    assert.ok(headers.includes('last-event-id') && !headers.includes('x-evil'));
  }
  assert.equal(heard(), 0);
});

test('A9: any other page is told nothing, and neither is who asks by another name', async (t) => {
  const { ask } = await start(t);
  for (const origin of ['https://evil.example', 'null', 'https://app.example.evil.example']) {
    const told = await ask('OPTIONS', { origin, ...WANTS });
    assert.equal(told.status, 403, origin);
    assert.equal(told.headers.get('access-control-allow-origin'), null);
  }
  assert.equal((await ask('OPTIONS', { ...WANTS })).status, 405, 'no page');
  assert.equal((await ask('OPTIONS', { origin: PAGE })).status, 405, 'no preflight');
});

test('A9: a page of an allowed origin can read answers, refusals and the id of its session', async (t) => {
  const { ask, authorization } = await start(t);
  const answered = await ask('POST', { origin: PAGE, authorization });
  assert.equal(answered.status, 200);
  assert.match(answered.headers.get('mcp-session-id') ?? '', /^o1\./);
  const refused = await ask('POST', { origin: PAGE });
  assert.equal(refused.status, 401);
  for (const { headers } of [answered, refused]) {
    assert.equal(headers.get('access-control-allow-origin'), PAGE);
    assert.match(headers.get('access-control-expose-headers') ?? '', /mcp-session-id/);
    assert.match(headers.get('vary') ?? '', /origin/i);
  }
  const [program, other] = [
    await ask('POST', { authorization }),
    await ask('POST', { authorization, origin: 'https://evil.example' }),
  ];
  assert.deepEqual([program.status, other.status], [200, 403]);
  for (const { headers } of [program, other])
    assert.equal(headers.get('access-control-allow-origin'), null);
});

test('A9: without tokens no page is let in: nothing but its origin would say who it is', async (t) => {
  const { ask, heard } = await start(t, { insecure: true });
  const told = await ask('OPTIONS', { origin: PAGE, ...WANTS });
  assert.equal(told.status, 405);
  assert.equal(told.headers.get('access-control-allow-origin'), null);
  const answered = await ask('POST', { origin: PAGE });
  assert.equal(answered.headers.get('access-control-allow-origin'), null);
  assert.equal(heard(), 1, 'control: the origin itself is allowed');
});

test('A9: the page can read where to get a token', async (t) => {
  const jwks = 'https://idp.example/keys';
  const issuer = { issuer: 'https://idp.example', jwks, audience: 'x', scopes: [] };
  const { ask } = await start(t, {
    issuers: [{ ...NOTHING_MORE, ...issuer }],
    publicUrl: new URL('https://mcp.example/mcp'),
  });
  const path = '/.well-known/oauth-protected-resource';
  for (const method of ['OPTIONS', 'GET']) {
    const told = await ask(method, { origin: PAGE, ...(method === 'OPTIONS' && WANTS) }, path);
    assert.equal(told.status, method === 'GET' ? 200 : 204);
    assert.equal(told.headers.get('access-control-allow-origin'), PAGE);
  }
  assert.equal((await ask('GET', { origin: 'https://evil.example' }, path)).status, 403);
  assert.equal((await ask('GET', {}, path)).status, 200, 'no page');
});

const NOTHING_MORE = {
  introspection: undefined,
  introspectionClient: undefined,
  introspectionSecretFile: undefined,
  algorithms: ['RS256'],
  groupsClaim: 'groups',
  tenantClaim: undefined,
  claims: [],
  jwksCooldown: 5_000,
  jwksMaxAge: 3_600_000,
} as const;

test('what the gateway says itself is not to be taken for anything else', async (t) => {
  const { ask, origin } = await start(t);
  for (const response of [await ask('POST', {}), await fetch(`${origin}/livez`)])
    assert.equal(response.headers.get('x-content-type-options'), 'nosniff');
});
