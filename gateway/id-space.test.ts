import assert from 'node:assert/strict';
import { hash } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { newId } from '#core/ids';
import type { GatewayConfig } from './config.ts';
import { sessionKeys, startGateway, startHttp, temporaryDirectory } from './testing.ts';

const INITIALIZE = {
  jsonrpc: '2.0',
  id: 1,
  method: 'initialize',
  params: { protocolVersion: '2025-11-25', capabilities: {}, clientInfo: { name: 'test' } },
};
const PING = { jsonrpc: '2.0', id: 1, method: 'ping' };
const METHODS = ['POST', 'GET', 'DELETE'];

/** Two gateways with the same keys, before servers that give id spaces, as ours do, and note by which they were asked. */
async function start(t: TestContext, over: Partial<GatewayConfig> = {}) {
  const seen: { readonly server: number; readonly said: unknown }[] = [];
  const given: string[] = [];
  const server = (number: number) =>
    startHttp(t, (request, response) => {
      const said = request.headers['mcp-session-id'];
      seen.push({ server: number, said });
      request.resume();
      if (said === undefined) {
        const made = newId('ids');
        given.push(made);
        response.setHeader('mcp-session-id', made);
      }
      const status = request.method === 'POST' ? 200 : 405;
      response.writeHead(status, { 'content-type': 'application/json' }).end('{}');
    });
  const servers = [await server(0), await server(1)];
  const directory = temporaryDirectory(t);
  const keys = join(directory, 'keys.json');
  writeFileSync(keys, sessionKeys('shared'), { mode: 0o600 });
  const staticTokens = join(directory, 'tokens.json');
  const tokens = ['alice', 'mallory'].map((subject) => ({
    subject,
    sha256: hash('sha256', subject),
  }));
  writeFileSync(staticTokens, JSON.stringify({ tokens }));
  const files = { sessionKeys: keys, staticTokens };
  const shared = { ...files, ...over };
  const [first, second] = await Promise.all([
    startGateway(t, servers, shared),
    startGateway(t, servers, shared),
  ]);
  return {
    servers,
    keys: files,
    seen,
    given,
    first: at(first.origin),
    second: at(second.origin),
    origin: first.origin,
  };
}

interface Sent {
  readonly id?: string;
  readonly method?: string;
  readonly body?: object;
  readonly who?: 'alice' | 'mallory';
  readonly version?: string;
}

/** Sends to one gateway; `alice` pings unless told otherwise. */
function at(origin: string) {
  return ({ id, method = 'POST', body = PING, who = 'alice', version }: Sent = {}) =>
    fetch(`${origin}/mcp`, {
      method,
      headers: {
        authorization: `Bearer ${who}`,
        ...(id === undefined ? {} : { 'mcp-session-id': id }),
        ...(version === undefined ? {} : { 'mcp-protocol-version': version }),
      },
      ...(method === 'POST' && { body: JSON.stringify(body) }),
    });
}

async function begin(send: ReturnType<typeof at>): Promise<string> {
  const { headers } = await send({ body: INITIALIZE });
  return headers.get('mcp-session-id') ?? assert.fail('no session began');
}

test('a session of our servers is sealed, and any of them serves it by the id space that one gave', async (t) => {
  const { seen, given, first, second } = await start(t);
  const id = await begin(first);
  assert.match(id, /^o1\.shared\./);
  seen.length = 0;
  for (let n = 0; new Set(seen.map(({ server }) => server)).size < 2; n++)
    assert.equal((await (n % 2 ? first : second)({ id })).status, 200);
  assert.deepEqual(new Set(seen.map(({ said }) => said)), new Set(given));
});

test('A6: a session of our servers is the caller’s alone: what no gateway sealed for it is the same 404 in every method', async (t) => {
  const { seen, given, first, second } = await start(t);
  const id = await begin(first);
  const before = seen.length;
  const answers = new Set<string>();
  for (const method of METHODS)
    for (const [stolen, who] of [
      [id, 'mallory'],
      [`ids-${'a'.repeat(26)}`, 'alice'],
      [given[0], 'alice'],
      [`${id.slice(0, -2)}${id.endsWith('AA') ? 'BB' : 'AA'}`, 'alice'],
    ] as const) {
      const response = await second({ method, id: stolen ?? assert.fail(), who });
      assert.equal(response.status, 404, `${method} ${stolen} of ${who}`);
      answers.add(await response.text());
    }
  assert.equal(answers.size, 1, 'why is not told');
  assert.equal(seen.length, before, 'and no server is asked');
  assert.equal((await second({ id })).status, 200, 'control');
});

test('A6 A7: DELETE ends a session of our servers at the gateway: it is 404 from then on in every method, and others go on', async (t) => {
  const { seen, first, origin } = await start(t);
  const [id, other] = [await begin(first), await begin(first)];
  const before = seen.length;
  assert.equal((await first({ method: 'DELETE', id })).status, 200);
  for (const method of METHODS) assert.equal((await first({ method, id })).status, 404, method);
  assert.equal(seen.length, before, 'no server has any of it');
  assert.equal((await first({ id: other })).status, 200, 'control');
  const metrics = await (await fetch(`${origin}/metrics`)).text();
  assert.match(metrics, /outrider_sessions_total\{event="ended",part="gateway"\} 1/);
});

test('A6: gateways that share a directory find a session of our servers ended by one of them, and those that start later as well', {
  timeout: 60_000,
}, async (t) => {
  const recoveryDirectory = join(temporaryDirectory(t), 'shared');
  const { servers, keys, first, second } = await start(t, { recoveryDirectory });
  const [id, other] = [await begin(first), await begin(first)];
  assert.equal((await second({ id })).status, 200, 'control');
  assert.equal((await first({ method: 'DELETE', id })).status, 200);
  while ((await second({ id })).status === 200);
  for (const method of METHODS) assert.equal((await second({ method, id })).status, 404, method);
  const third = at((await startGateway(t, servers, { ...keys, recoveryDirectory })).origin);
  assert.equal((await third({ id })).status, 404);
  assert.equal((await third({ id: other })).status, 200, 'control');
});

test('A7: a session of our servers expires, however much it is used', {
  timeout: 120_000,
}, async (t) => {
  const { first } = await start(t, { sessionMax: 300 });
  const id = await begin(first);
  while ((await first({ id })).status === 200);
  for (const method of METHODS) assert.equal((await first({ method, id })).status, 404, method);
});

test('a session begins with `initialize` alone, and never since 2026-07-28', async (t) => {
  const { seen, first } = await start(t);
  const told = async (sent: Sent) => (await first(sent)).headers.get('mcp-session-id');
  assert.equal(await told({}), null);
  assert.equal(await told({ body: INITIALIZE, version: '2026-07-28' }), null);
  assert.match((await told({ body: INITIALIZE, version: '2025-11-25' })) ?? '', /^o1\./, 'control');
  await first({ id: await begin(first), version: '2026-07-28' });
  assert.equal(seen.at(-1)?.said, undefined);
});

test('a 404 of one of our servers ends no session: none of them keeps it', async (t) => {
  let status = 200;
  const server = await startHttp(t, (request, response) => {
    request.resume();
    response.writeHead(status, { 'mcp-session-id': newId('ids') }).end('{}');
  });
  const gateway = await startGateway(t, [server], { insecure: true });
  const send = at(gateway.origin);
  const id = await begin(send);
  status = 404;
  assert.equal((await send({ id })).status, 404);
  status = 200;
  assert.equal((await send({ id })).status, 200);
});

test('what a foreign server gives is a session of that server, whatever it looks like: control', async (t) => {
  const { seen, first } = await start(t, { serversAre: 'foreign' });
  const id = await begin(first);
  const home = seen.at(-1)?.server;
  for (let n = 0; n < 8; n++) await first({ id });
  assert.deepEqual(new Set(seen.map(({ server }) => server)), new Set([home]));
});
