import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { exportJWK, generateKeyPair, SignJWT } from 'jose';
import type { GatewayConfig } from '../config.ts';
import { sessionKeys, startGateway, startHttp, temporaryDirectory } from '../testing.ts';

const INITIALIZE = {
  jsonrpc: '2.0',
  id: 1,
  method: 'initialize',
  params: {
    protocolVersion: '2025-11-25',
    capabilities: {},
    clientInfo: { name: 'test', version: '1' },
  },
};
const PING = { jsonrpc: '2.0', id: 2, method: 'ping' };

/** A server of the legacy era with sessions: each knows its own, and counts what reaches it. */
function startStateful(t: TestContext, name: string) {
  const known = new Set<string>();
  const seen: string[] = [];
  const url = startHttp(t, async (request: IncomingMessage, response: ServerResponse) => {
    const body = await text(request);
    const id = request.headers['mcp-session-id'];
    seen.push(`${request.method} ${String(id)}`);
    if (request.method === 'POST' && id === undefined && body.includes('"initialize"')) {
      const made = `${name}-${known.size}`;
      known.add(made);
      response.writeHead(200, { 'mcp-session-id': made }).end('{}');
      return;
    }
    if (!known.has(String(id))) {
      response.writeHead(404).end('{}');
      return;
    }
    if (request.method === 'DELETE') known.delete(String(id));
    response.writeHead(200, { 'mcp-session-id': String(id) }).end(JSON.stringify({ name }));
  });
  return { url, seen, known };
}

interface Sent {
  readonly method?: string;
  readonly id?: string;
  readonly body?: unknown;
  readonly headers?: Record<string, string>;
}

function send(origin: string, authorization: string, { method = 'POST', id, body, headers }: Sent) {
  return fetch(`${origin}/mcp`, {
    method,
    headers: {
      authorization,
      'content-type': 'application/json',
      'mcp-protocol-version': '2025-11-25',
      ...(id === undefined ? {} : { 'mcp-session-id': id }),
      ...headers,
    },
    ...(method === 'POST' ? { body: JSON.stringify(body ?? PING) } : {}),
  });
}

async function begin(origin: string, authorization: string, body: unknown = INITIALIZE) {
  const response = await send(origin, authorization, { body });
  assert.equal(response.status, 200);
  return response.headers.get('mcp-session-id') ?? assert.fail('no session began');
}

/** Gateways that share their keys, before the same two servers, and a second principal. */
async function startReplicas(t: TestContext, over: Partial<GatewayConfig> = {}) {
  const servers = [startStateful(t, 'a'), startStateful(t, 'b')] as const;
  const urls = await Promise.all(servers.map(({ url }) => url));
  const { publicKey, privateKey } = await generateKeyPair('ES256');
  const directory = temporaryDirectory(t);
  const jwks = join(directory, 'jwks.json');
  writeFileSync(jwks, JSON.stringify({ keys: [{ ...(await exportJWK(publicKey)), kid: 'k' }] }));
  const keys = join(directory, 'sessions.json');
  writeFileSync(keys, sessionKeys('shared'), { mode: 0o600 });
  const issuer = {
    issuer: 'https://idp.example',
    jwks,
    audience: 'gateway',
    algorithms: ['ES256'],
    scopes: [],
    groupsClaim: 'groups',
    tenantClaim: undefined,
    claims: [],
    jwksCooldown: 5_000,
    jwksMaxAge: 3_600_000,
    introspection: undefined,
    introspectionClient: undefined,
    introspectionSecretFile: undefined,
  } as const;
  const shared = { sessionKeys: keys, issuers: [issuer], serversAre: 'foreign', ...over } as const;
  const [first, second] = await Promise.all([
    startGateway(t, urls, shared),
    startGateway(t, urls, shared),
  ]);
  const tokenOf = async (subject: string) =>
    `Bearer ${await new SignJWT()
      .setProtectedHeader({ alg: 'ES256', kid: 'k' })
      .setIssuer(issuer.issuer)
      .setAudience('gateway')
      .setSubject(subject)
      .setExpirationTime('5m')
      .sign(privateKey)}`;
  return {
    first,
    second,
    servers,
    alice: await tokenOf('alice'),
    mallory: await tokenOf('mallory'),
  };
}

test('A4: sessions stay at their server through either gateway, and its own id is never shown', async (t) => {
  const { first, second, servers, alice } = await startReplicas(t);
  const names = new Set<string>();
  for (let n = 0; n < 12; n++) {
    const id = await begin(n % 2 ? first.origin : second.origin, alice);
    assert.match(id, /^o1\.shared\./);
    const replies = [];
    for (const { origin } of [first, second, first, second]) {
      const response = await send(origin, alice, { id });
      assert.equal(response.headers.get('mcp-session-id'), id);
      replies.push(Object(await response.json()).name);
    }
    assert.equal(new Set(replies).size, 1);
    names.add(String(replies[0]));
  }
  assert.deepEqual(names, new Set(['a', 'b']), 'both servers have some');
  assert.equal(servers[0].known.size + servers[1].known.size, 12);
});

test('A6: no method uses a session that is not the caller’s, and no server hears of it', async (t) => {
  const { first, second, servers, alice, mallory } = await startReplicas(t);
  const id = await begin(first.origin, alice);
  const forged = `${id.slice(0, -2)}${id.endsWith('AA') ? 'BB' : 'AA'}`;
  const seen = () => servers[0].seen.length + servers[1].seen.length;
  const before = seen();
  const answers = new Set<string>();
  for (const method of ['POST', 'GET', 'DELETE'])
    for (const [stolen, authorization] of [
      [id, mallory],
      [id, second.authorization],
      [forged, alice],
      ['a-0', alice],
      ['b-0', alice],
      ['', alice],
    ] as const) {
      const response = await send(second.origin, authorization, { method, id: stolen });
      assert.equal(response.status, 404, `${method} ${stolen}`);
      answers.add(await response.text());
    }
  assert.equal(answers.size, 1, 'why is not told');
  assert.equal(seen(), before);
  assert.equal((await send(second.origin, alice, { id })).status, 200, 'control');
});

test('A6 A7: an ended session is 404 at every gateway, in every method', async (t) => {
  const { first, second, alice } = await startReplicas(t);
  const id = await begin(first.origin, alice);
  assert.equal((await send(first.origin, alice, { method: 'DELETE', id })).status, 200);
  for (const { origin } of [first, second])
    for (const method of ['POST', 'GET', 'DELETE'])
      assert.equal((await send(origin, alice, { method, id })).status, 404, method);
});

/** A server that keeps at most two sessions and forgets those that were idle for 300 ms, and says so in its own words. */
async function startStrict(t: TestContext) {
  const used = new Map<string, number>();
  let made = 0;
  let asked = 0;
  const url = await startHttp(t, async (request, response) => {
    const body = await text(request);
    asked += 1;
    for (const [id, at] of used) if (performance.now() - at > 300) used.delete(id);
    const id = request.headers['mcp-session-id'];
    if (id === undefined && used.size >= 2) {
      const error = { code: -32_000, message: 'too many sessions', data: { code: 'SESSION_CAP' } };
      const headers = { 'content-type': 'application/json', 'retry-after': '7' };
      response.writeHead(429, headers).end(JSON.stringify({ jsonrpc: '2.0', id: 1, error }));
    } else if (id === undefined && body.includes('"initialize"')) {
      const begun = `strict-${made++}`;
      used.set(begun, performance.now());
      response.writeHead(200, { 'mcp-session-id': begun }).end('{}');
    } else if (used.has(String(id))) {
      used.set(String(id), performance.now());
      response.writeHead(200).end('{}');
    } else response.writeHead(404).end('{}');
  });
  return { url, asked: () => asked };
}

test('A7: a session that its server has let go of for idleness is 404 from then on in every method, and the metrics count it', async (t) => {
  const server = await startStrict(t);
  const { origin, authorization } = await startGateway(t, [server.url], { serversAre: 'foreign' });
  const id = await begin(origin, authorization);
  assert.equal((await send(origin, authorization, { id })).status, 200, 'control');
  await sleep(400);
  assert.equal((await send(origin, authorization, { id })).status, 404);
  const asked = server.asked();
  for (const method of ['POST', 'GET', 'DELETE'])
    assert.equal((await send(origin, authorization, { method, id })).status, 404, method);
  assert.equal(server.asked(), asked, 'and its server is not asked again');
  const metrics = await (await fetch(`${origin}/metrics`)).text();
  assert.match(metrics, /outrider_sessions_total\{event="lost",part="gateway"\} 1/);
});

test("A7: a server's own limit of sessions reaches the client as the server says it", async (t) => {
  const server = await startStrict(t);
  const { origin, authorization } = await startGateway(t, [server.url], { serversAre: 'foreign' });
  const ids = [await begin(origin, authorization), await begin(origin, authorization)];
  assert.equal(new Set(ids).size, 2, 'control');
  const refused = await send(origin, authorization, { body: INITIALIZE });
  assert.equal(refused.status, 429);
  assert.equal(refused.headers.get('retry-after'), '7');
  assert.equal(refused.headers.get('mcp-session-id'), null);
  assert.equal(Object(await refused.json()).error.data.code, 'SESSION_CAP');
});

test('the 404 of a GET alone ends no session: its server may have no event streams', async (t) => {
  const server = await startHttp(t, (request, response) => {
    request.resume();
    response.writeHead(request.method === 'GET' ? 404 : 200, { 'mcp-session-id': 's' }).end('{}');
  });
  const { origin, authorization } = await startGateway(t, [server], { serversAre: 'foreign' });
  const id = await begin(origin, authorization);
  assert.equal((await send(origin, authorization, { method: 'GET', id })).status, 404);
  assert.equal((await send(origin, authorization, { id })).status, 200);
});

test('a session whose server refuses to end it goes on', async (t) => {
  const server = await startHttp(t, (request, response) => {
    request.resume();
    response.writeHead(request.method === 'DELETE' ? 405 : 200, { 'mcp-session-id': 's' }).end();
  });
  const { origin, authorization } = await startGateway(t, [server]);
  const id = await begin(origin, authorization);
  assert.equal((await send(origin, authorization, { method: 'DELETE', id })).status, 405);
  assert.equal((await send(origin, authorization, { id })).status, 200);
});

test('A7: a session expires, however much it is used, and the metrics say so', {
  timeout: 120_000,
}, async (t) => {
  const { first, alice } = await startReplicas(t, { sessionMax: 300 });
  const id = await begin(first.origin, alice);
  assert.equal((await send(first.origin, alice, { id })).status, 200);
  while ((await send(first.origin, alice, { id })).status === 200);
  assert.equal((await send(first.origin, alice, { id })).status, 404);
  const metrics = await (await fetch(`${first.origin}/metrics`)).text();
  assert.match(metrics, /outrider_sessions_total\{event="begun",part="gateway"\} 1/);
  assert.match(metrics, /outrider_sessions_total\{event="expired",part="gateway"\} [1-9]/);
});

test('a client that says more than fits gets a session, and the metrics say that it cannot be begun again', async (t) => {
  const { first, alice } = await startReplicas(t);
  const capabilities = { experimental: { large: 'x'.repeat(3_000) } };
  const params = { ...INITIALIZE.params, capabilities };
  const id = await begin(first.origin, alice, { ...INITIALIZE, params });
  assert.ok(id.length <= 2_048);
  assert.equal((await send(first.origin, alice, { id })).status, 200);
  const metrics = await (await fetch(`${first.origin}/metrics`)).text();
  assert.match(metrics, /outrider_sessions_total\{event="unrecoverable",part="gateway"\} 1/);
});

test('a server whose own id is too long is said to be at fault', async (t) => {
  const server = await startHttp(t, (request, response) => {
    request.resume();
    response.writeHead(200, { 'mcp-session-id': 'x'.repeat(2_000) }).end();
  });
  const { origin, authorization } = await startGateway(t, [server]);
  assert.equal((await send(origin, authorization, { body: INITIALIZE })).status, 502);
});

test('the stateless era has no sessions: an id is neither passed on nor shown', async (t) => {
  const { first, servers, alice } = await startReplicas(t);
  const headers = { 'mcp-protocol-version': '2026-07-28', 'mcp-method': 'ping' };
  const response = await send(first.origin, alice, { id: 'anything', headers });
  assert.equal(response.status, 404, "the server's own: it knows nothing without a session");
  assert.deepEqual([...servers[0].seen, ...servers[1].seen], ['POST undefined']);
  const begun = await send(first.origin, alice, {
    body: INITIALIZE,
    headers: { ...headers, 'mcp-method': 'initialize' },
  });
  assert.equal(begun.headers.get('mcp-session-id'), null);
});
