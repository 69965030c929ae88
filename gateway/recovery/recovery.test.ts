import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import type { GatewayConfig } from '../config.ts';
import { sessionKeys, startGateway, temporaryDirectory } from '../testing.ts';

/** A server that keeps its sessions in memory. It answers with what it has been told in one; the first call of all kills its server. */
const STATEFUL = `
import { appendFileSync, readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { text } from 'node:stream/consumers';
const sessions = new Map();
const answer = (response, status, body, headers = {}) => response.writeHead(status, headers).end(JSON.stringify(body));
createServer(async (request, response) => {
  const message = JSON.parse((await text(request)) || '{}');
  let id = request.headers['mcp-session-id'];
  if (message.method === 'tools/call') {
    appendFileSync(process.argv[1], '.');
    if (readFileSync(process.argv[1], 'utf8') === '.') process.exit(1);
  }
  if (message.method === 'initialize') {
    id = process.pid + '-' + sessions.size;
    sessions.set(id, { client: message.params.clientInfo.name, told: [] });
    const result = { protocolVersion: '2025-06-18' };
    return answer(response, 200, { jsonrpc: '2.0', id: message.id, result }, { 'mcp-session-id': id });
  }
  const session = sessions.get(id);
  if (!session) return answer(response, 404, {});
  const { method, params } = message;
  if (method && method !== 'ping') session.told.push(method + ' ' + (params?.level ?? params?.uri ?? request.headers['mcp-protocol-version']));
  answer(response, method?.startsWith('notifications/') ? 202 : 200, { ...session, pid: process.pid }, { 'mcp-session-id': id });
}).listen(Number(process.argv[2]), '127.0.0.1', function () { console.log(this.address().port); });
`;

interface Server {
  readonly child: ChildProcess;
  readonly url: string;
}

async function spawnServer(t: TestContext, log: string, port = 0): Promise<Server> {
  const child = spawn(
    process.execPath,
    ['--input-type=module', '-e', STATEFUL, '--', log, String(port)],
    { stdio: ['ignore', 'pipe', 'inherit'] },
  );
  t.after(() => child.kill('SIGKILL'));
  const [bound]: unknown[] = await once(child.stdout, 'data');
  return { child, url: `http://127.0.0.1:${String(bound).trim()}` };
}

async function kill({ child }: Server): Promise<void> {
  const ended = once(child, 'exit');
  child.kill('SIGKILL');
  await ended;
}

/** Two gateways that share keys and, where told, moves, before three servers. */
async function startMesh(t: TestContext, over: Partial<GatewayConfig> = {}) {
  const root = temporaryDirectory(t);
  const log = join(root, 'calls.log');
  writeFileSync(log, '');
  const keys = join(root, 'keys.json');
  writeFileSync(keys, sessionKeys('shared'), { mode: 0o600 });
  const servers = await Promise.all([1, 2, 3].map(() => spawnServer(t, log)));
  const config = {
    serversAre: 'foreign',
    recovery: true,
    recoveryDirectory: join(root, 'moves'),
    sessionKeys: keys,
    insecure: true,
    ...over,
  } as const;
  const urls = servers.map(({ url }) => url);
  const gateways = [
    await startGateway(t, urls, config),
    await startGateway(t, urls, config),
  ] as const;
  const calls = () => readFileSync(log, 'utf8').length;
  return { servers, gateways, calls, moves: () => readdirSync(join(root, 'moves')) };
}

function send(origin: string, session: string | undefined, method: string, params: object = {}) {
  const isRequest = !method.startsWith('notifications/');
  return fetch(`${origin}/mcp`, {
    method: 'POST',
    headers: {
      'content-type': 'application/json',
      'mcp-protocol-version': '2025-06-18',
      ...(session === undefined ? {} : { 'mcp-session-id': session }),
    },
    body: JSON.stringify({ jsonrpc: '2.0', ...(isRequest ? { id: 1 } : {}), method, params }),
  });
}

const begin = async (origin: string, name = 'me') => {
  const params = { protocolVersion: '2025-06-18', capabilities: {}, clientInfo: { name } };
  const response = await send(origin, undefined, 'initialize', params);
  const id = response.headers.get('mcp-session-id') ?? assert.fail('no session');
  await send(origin, id, 'notifications/initialized');
  return id;
};

const pidOf = async (origin: string, id: string) =>
  Object(await (await send(origin, id, 'ping')).json()).pid as unknown;

async function serverOf(mesh: { servers: readonly Server[] }, origin: string, id: string) {
  const pid = await pidOf(origin, id);
  return mesh.servers.find(({ child }) => child.pid === pid) ?? assert.fail('no such server');
}

test('sessions of a killed server go on elsewhere, with their settings, through both gateways', async (t) => {
  const mesh = await startMesh(t);
  const [first, second] = mesh.gateways;
  const ids = await Promise.all(
    Array.from({ length: 24 }, (_, n) => begin(first.origin, `client-${n}`)),
  );
  for (const id of ids) {
    await send(first.origin, id, 'logging/setLevel', { level: 'debug' });
    await send(first.origin, id, 'resources/subscribe', { uri: 'test://a' });
    await send(first.origin, id, 'resources/subscribe', { uri: 'test://b' });
    await send(first.origin, id, 'resources/unsubscribe', { uri: 'test://a' });
  }
  const [victim] = mesh.servers;
  assert.ok(victim);
  await kill(victim);
  const after = await Promise.all(
    ids.map(async (id) => {
      const responses = await Promise.all([1, 2, 3].map(() => send(first.origin, id, 'ping')));
      for (const { status, headers } of responses) {
        assert.equal(status, 200);
        assert.equal(headers.get('mcp-session-id'), id, 'the client sees no other id');
      }
      return Object(await responses[0]?.json());
    }),
  );
  const moved = mesh.moves().length;
  assert.ok(moved > 0, 'some of them had been there');
  for (const [n, { client, told }] of after.entries()) {
    assert.equal(client, `client-${n}`);
    assert.equal(told[0], 'notifications/initialized 2025-06-18');
    assert.deepEqual(
      told.slice(1).filter((line: string) => /debug|test:\/\/b/.test(line)),
      ['logging/setLevel debug', 'resources/subscribe test://b'],
    );
  }
  for (const [n, id] of ids.entries())
    assert.equal(
      await pidOf(second.origin, id),
      after[n]?.pid,
      'the other gateway finds the place',
    );
  assert.equal(mesh.moves().length, moved, 'and moves nothing itself');
});

test('a session moves again when its new server goes as well', async (t) => {
  const mesh = await startMesh(t);
  const [{ origin }] = mesh.gateways;
  const id = await begin(origin);
  await kill(await serverOf(mesh, origin, id));
  await kill(await serverOf(mesh, origin, id));
  assert.equal((await send(origin, id, 'ping')).status, 200);
  await kill(await serverOf(mesh, origin, id));
  assert.equal((await send(origin, id, 'ping')).status, 502, 'until no server is left');
});

test('without recovery the session of a killed server is lost', async (t) => {
  const mesh = await startMesh(t, { recovery: false });
  const [{ origin }] = mesh.gateways;
  const id = await begin(origin);
  await kill(await serverOf(mesh, origin, id));
  assert.equal((await send(origin, id, 'ping')).status, 502);
});

test('a server that says 404 has ended the session: it is not begun again', async (t) => {
  const mesh = await startMesh(t);
  const [{ origin }] = mesh.gateways;
  const id = await begin(origin);
  const server = await serverOf(mesh, origin, id);
  await kill(server);
  await spawnServer(t, '/dev/null', Number(new URL(server.url).port));
  assert.equal((await send(origin, id, 'ping')).status, 404);
  assert.deepEqual(mesh.moves(), []);
});

for (const [safeTools, status, sent] of [
  [[], 502, 1],
  [['other'], 502, 1],
  [['compute'], 200, 2],
] as const)
  test(`a call that was lost half-way is sent ${sent} times with safeTools [${safeTools.join()}], and its session lives`, async (t) => {
    const mesh = await startMesh(t, { safeTools });
    const [{ origin }] = mesh.gateways;
    const id = await begin(origin);
    const response = await send(origin, id, 'tools/call', { name: 'compute', arguments: {} });
    assert.equal(response.status, status);
    if (status === 502)
      assert.equal(Object(await response.json()).error.data.code, 'UPSTREAM_LOST');
    assert.equal(mesh.calls(), sent);
    assert.equal((await send(origin, id, 'ping')).status, 200);
  });
