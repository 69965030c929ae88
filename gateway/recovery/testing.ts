import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import type { GatewayConfig } from '../config.ts';
import { sessionKeys, startGateway, temporaryDirectory } from '../testing.ts';

/** A server that keeps its sessions in memory. It answers with what it has been told in one; the first call of all kills its server, where it `streams` within the answer. */
const STATEFUL = `
import { appendFileSync, readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { text } from 'node:stream/consumers';
const sessions = new Map();
const speaks = process.argv[3].split(',');
const answer = (response, status, body, headers = {}) => response.writeHead(status, { 'content-type': 'application/json', ...headers }).end(JSON.stringify(body));
createServer({ keepAliveTimeout: 65_000 }, async (request, response) => {
  const message = JSON.parse((await text(request)) || '{}');
  let id = request.headers['mcp-session-id'];
  if (message.method === 'tools/call') {
    appendFileSync(process.argv[1], '.');
    if (readFileSync(process.argv[1], 'utf8') === '.') {
      if (!message.params.arguments.streams) process.exit(1);
      return response.writeHead(200, { 'content-type': 'text/event-stream' }).write(': here\\n\\n', () => process.exit(1));
    }
  }
  if (message.method === 'initialize') {
    id = process.pid + '-' + sessions.size;
    const asked = message.params.protocolVersion;
    const result = { protocolVersion: speaks.includes(asked) ? asked : speaks[0] };
    sessions.set(id, { client: message.params.clientInfo.name, told: [], version: result.protocolVersion });
    return answer(response, 200, { jsonrpc: '2.0', id: message.id, result }, { 'mcp-session-id': id });
  }
  const session = sessions.get(id);
  if (!session) return answer(response, 404, {});
  if ((request.headers['mcp-protocol-version'] ?? session.version) !== session.version) return answer(response, 400, {});
  const { method, params } = message;
  if (method && method !== 'ping') session.told.push(method + ' ' + (params?.level ?? params?.uri ?? request.headers['mcp-protocol-version']));
  if (params?.uri === 'refused') return answer(response, 200, { jsonrpc: '2.0', id: message.id, error: { code: -32602, message: 'no' } });
  answer(response, method?.startsWith('notifications/') ? 202 : 200, { ...session, pid: process.pid }, { 'mcp-session-id': id });
}).listen(Number(process.argv[2]), '127.0.0.1', function () { console.log(this.address().port); });
`;

/** One of them. */
export interface Server {
  readonly child: ChildProcess;
  readonly url: string;
}

/** Starts one; `log` gets a character for each call of a tool, `speaks` are the versions that it does, the one that it proposes first. */
export async function spawnServer(
  t: TestContext,
  log: string,
  port = 0,
  speaks = '2025-06-18',
): Promise<Server> {
  const child = spawn(
    process.execPath,
    ['--input-type=module', '-e', STATEFUL, '--', log, String(port), speaks],
    { stdio: ['ignore', 'pipe', 'inherit'] },
  );
  t.after(() => child.kill('SIGKILL'));
  const [bound]: unknown[] = await once(child.stdout, 'data');
  return { child, url: `http://127.0.0.1:${String(bound).trim()}` };
}

/** SIGKILL. */
export async function kill({ child }: Server): Promise<void> {
  const ended = once(child, 'exit');
  child.kill('SIGKILL');
  await ended;
}

/** Two gateways that share keys and, where told, moves, before three servers, which speak what is said of each. */
export async function startMesh(
  t: TestContext,
  over: Partial<GatewayConfig> = {},
  speaks: readonly (string | undefined)[] = [undefined, undefined, undefined],
) {
  const root = temporaryDirectory(t);
  const log = join(root, 'calls.log');
  writeFileSync(log, '');
  const keys = join(root, 'keys.json');
  writeFileSync(keys, sessionKeys('shared'), { mode: 0o600 });
  const servers = await Promise.all(speaks.map((versions) => spawnServer(t, log, 0, versions)));
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
  const startAnother = () => startGateway(t, urls, config);
  const moves = () =>
    readdirSync(join(root, 'moves')).filter((name) => /^session-[\da-f]{64}$/.test(name));
  return { servers, gateways, startAnother, calls, moves };
}

/** A session that was ended at one gateway, and whose server is then gone, is begun again neither by the other nor by a new one. */
export async function endAndReplay(mesh: Awaited<ReturnType<typeof startMesh>>): Promise<void> {
  const [{ origin: first }, { origin: second }] = mesh.gateways;
  const id = await begin(first);
  const server = await serverOf(mesh, second, id);
  const stays = await begin(first);
  await fetch(`${first}/mcp`, { method: 'DELETE', headers: { 'mcp-session-id': id } });
  await kill(server);
  const { origin: third } = await mesh.startAnother();
  for (const origin of [first, second, third]) {
    assert.equal((await send(origin, id, 'ping')).status, 404);
    assert.equal((await send(origin, stays, 'ping')).status, 200, 'control');
  }
}

/** Sends one message to a gateway, in a session where one is named. */
export function send(
  origin: string,
  session: string | undefined,
  method: string,
  params: object = {},
) {
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

/** Begins a session. */
export const begin = async (origin: string, name = 'me') => {
  const params = { protocolVersion: '2025-06-18', capabilities: {}, clientInfo: { name } };
  const response = await send(origin, undefined, 'initialize', params);
  const id = response.headers.get('mcp-session-id') ?? assert.fail('no session');
  await send(origin, id, 'notifications/initialized');
  return id;
};

/** The process that has a session. */
export const pidOf = async (origin: string, id: string) =>
  Object(await (await send(origin, id, 'ping')).json()).pid as unknown;

/** The same, of those of the mesh. */
export async function serverOf(mesh: { servers: readonly Server[] }, origin: string, id: string) {
  const pid = await pidOf(origin, id);
  return mesh.servers.find(({ child }) => child.pid === pid) ?? assert.fail('no such server');
}
