import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { text } from 'node:stream/consumers';
import { type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { loadConfig } from '#core/config';
import type { GatewayConfig } from './config.ts';
import { gatewaySpec } from './config.ts';
import { placesNow } from './relay/discovery.ts';
import { startGateway, startHttp } from './testing.ts';

const STATEFUL = `
import { createServer } from 'node:http';
let sessions = 0;
const server = createServer((request, response) => {
  request.resume();
  if (request.method === 'GET')
    return response.writeHead(200, { 'content-type': 'text/event-stream' }).write(': here\\n\\n');
  const id = request.headers['mcp-session-id'] ?? process.pid + '-' + sessions++;
  response.writeHead(200, { 'mcp-session-id': id }).end(String(process.pid));
}).listen(0, '127.0.0.1', () => console.log(server.address().port));
`;

/** A server in a process of its own, that a test can stop. */
async function spawnServer(t: TestContext) {
  const child = spawn(process.execPath, ['--input-type=module', '-e', STATEFUL], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  t.after(() => child.kill('SIGKILL'));
  const [port]: unknown[] = await once(child.stdout, 'data');
  return { child, pid: String(child.pid), url: `http://127.0.0.1:${String(port).trim()}` };
}

interface Running {
  readonly origin: string;
  readonly authorization: string;
}

const headersOf = ({ authorization }: Running, session: string | undefined) => ({
  authorization,
  ...(session === undefined ? {} : { 'mcp-session-id': session }),
});

const post = (gateway: Running, session?: string) =>
  fetch(`${gateway.origin}/mcp`, {
    method: 'POST',
    headers: headersOf(gateway, session),
    body: '{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25"}}',
  });

const listen = (gateway: Running, session: string) =>
  fetch(`${gateway.origin}/mcp`, { headers: headersOf(gateway, session) });

/** The JSON-RPC error's own code in our terms. */
const codeOf = async (response: Response) => Object(await response.json()).error.data.code;

async function isUp({ origin }: Running, backend: number, wanted: 0 | 1): Promise<boolean> {
  const metrics = await (await fetch(`${origin}/metrics`)).text();
  return metrics.includes(`outrider_backend_up{backend="${backend}",part="gateway"} ${wanted}`);
}

async function until(condition: () => Promise<boolean>): Promise<void> {
  while (!(await condition())) await sleep(20);
}

test('A8: a stopped server is out after three checks, its sessions are not found, and it comes back', {
  timeout: 120_000,
}, async (t) => {
  const [first, second] = await Promise.all([spawnServer(t), spawnServer(t)]);
  const gateway = await startGateway(t, [first.url, second.url], {
    serversAre: 'foreign',
    healthInterval: 100,
  });
  let atFirst: string | undefined;
  while (atFirst === undefined) {
    const response = await post(gateway);
    if ((await response.text()) === first.pid)
      atFirst = response.headers.get('mcp-session-id') ?? undefined;
  }
  first.child.kill('SIGSTOP');
  await until(() => isUp(gateway, 0, 0));
  const answered = await Promise.all(
    Array.from({ length: 20 }, async () => (await post(gateway)).text()),
  );
  assert.deepEqual(new Set(answered), new Set([second.pid]), 'nothing new goes to it');
  assert.equal((await post(gateway, atFirst)).status, 404, 'its client is told to begin again');
  first.child.kill('SIGCONT');
  await until(() => isUp(gateway, 0, 1));
  assert.equal(await (await post(gateway, atFirst)).text(), first.pid, 'nothing was lost');
});

test('A8: what waits at a stopped server is lost after three checks, and its event streams end', {
  timeout: 120_000,
}, async (t) => {
  const server = await spawnServer(t);
  const gateway = await startGateway(t, [server.url], {
    serversAre: 'foreign',
    healthInterval: 100,
  });
  const session = (await post(gateway)).headers.get('mcp-session-id') ?? '';
  const stream = await listen(gateway, session);
  server.child.kill('SIGSTOP');
  const waiting = await post(gateway, session);
  assert.equal(waiting.status, 502);
  assert.equal(await codeOf(waiting), 'UPSTREAM_LOST');
  await assert.rejects(stream.text(), 'its client asks elsewhere for the rest');
});

for (const signal of ['SIGKILL', 'SIGSTOP'] as const)
  test(`A8: the sessions of a server that has left are not found once ${signal} ended it, and what waits there is lost`, {
    timeout: 120_000,
  }, async (t) => {
    const [first, second] = await Promise.all([spawnServer(t), spawnServer(t)]);
    const gateway = await startGateway(t, [first.url], {
      serversAre: 'foreign',
      healthInterval: 100,
    });
    const session = (await post(gateway)).headers.get('mcp-session-id') ?? '';
    await gateway.reload({ servers: [new URL('/mcp', second.url)] });
    await sleep(500); // some checks
    assert.equal(await (await post(gateway, session)).text(), first.pid, 'control: it goes on');
    const stream = await listen(gateway, session);
    first.child.kill(signal);
    await Promise.all([
      assert.rejects(stream.text()),
      until(async () => (await post(gateway, session)).status === 404),
    ]);
    assert.equal(await (await post(gateway)).text(), second.pid, 'control');
  });

test('a server that takes no connection any more ends what it has in its own time', {
  timeout: 120_000,
}, async (t) => {
  let release = () => {};
  let begun = () => {};
  const running = new Promise<void>((resolve) => {
    begun = resolve;
  });
  const serve = async (request: IncomingMessage, response: ServerResponse) => {
    // A check would keep its connection.
    if ((await text(request)).includes('server/discover')) return void response.destroy();
    release = () => response.end('the end');
    begun();
    return void server.close();
  };
  const server = createServer((request, response) => void serve(request, response));
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const url = `http://127.0.0.1:${Object(server.address()).port}`;
  const gateway = await startGateway(t, [url], { healthInterval: 50 });
  const answer = post(gateway);
  await running;
  await until(() => isUp(gateway, 0, 0));
  await sleep(500); // some more checks, all refused
  release();
  assert.equal(await (await answer).text(), 'the end');
});

test('A8: a draining server keeps its sessions and gets nothing new', async (t) => {
  const [first, second] = await Promise.all([spawnServer(t), spawnServer(t)]);
  const keys = await startGateway(t, [first.url], { serversAre: 'foreign' });
  const old = (await post(keys)).headers.get('mcp-session-id') ?? '';
  const gateway = await startGateway(t, [first.url, second.url], {
    serversAre: 'foreign',
    serversDraining: [new URL('/mcp', first.url)],
    sessionKeys: keys.config.sessionKeys,
  });
  for (let n = 0; n < 10; n++) assert.equal(await (await post(gateway)).text(), second.pid);
  assert.equal(await (await post(gateway, old)).text(), first.pid);
});

test('A8: no session begins at a draining server, also where there is no other', async (t) => {
  const server = await spawnServer(t);
  const keys = await startGateway(t, [server.url], { serversAre: 'foreign' });
  const old = (await post(keys)).headers.get('mcp-session-id') ?? '';
  for (const others of [[], ['http://127.0.0.1:1']]) {
    const gateway = await startGateway(t, [server.url, ...others], {
      serversAre: 'foreign',
      serversDraining: [new URL('/mcp', server.url)],
      sessionKeys: keys.config.sessionKeys,
    });
    const refused = await post(gateway);
    if (others.length === 0) {
      assert.equal(refused.status, 503);
      assert.ok(Number(refused.headers.get('retry-after')) > 0);
      assert.equal(await codeOf(refused), 'UPSTREAM_UNAVAILABLE');
    } else assert.equal(await codeOf(refused), 'UPSTREAM_UNREACHABLE');
    assert.equal(await (await post(gateway, old)).text(), server.pid, 'what it had goes on');
  }
});

for (const inSession of [false, true])
  test(`a server that failed five times in a row rests, also as the only one${inSession ? ', in its sessions' : ''}`, async (t) => {
    let [calls, fails] = [0, false];
    const url = await startHttp(t, async (request, response) => {
      if ((await text(request)).includes('server/discover')) return void response.end();
      calls += 1;
      return void response.writeHead(fails ? 503 : 200, { 'mcp-session-id': 's' }).end();
    });
    const gateway = await startGateway(t, [url], { serversAre: 'foreign' });
    const id = (await post(gateway)).headers.get('mcp-session-id') ?? '';
    [calls, fails] = [0, true];
    const session = inSession ? id : undefined;
    for (let n = 0; n < 20; n++) {
      const response = await post(gateway, session);
      assert.equal(response.status, 503);
      if (n < 5) continue;
      const seconds = Number(response.headers.get('retry-after'));
      assert.ok(seconds > 0 && seconds <= 30, `${seconds} s`);
      assert.equal(await codeOf(response), 'UPSTREAM_UNAVAILABLE');
    }
    assert.equal(calls, 5);
  });

test('a server that only answers 503 is left out after five of them', async (t) => {
  const failing = await startHttp(t, (request, response) => {
    request.resume();
    response.writeHead(503).end();
  });
  const good = await startHttp(t, (request, response) => {
    request.resume();
    response.end('good');
  });
  const gateway = await startGateway(t, [failing, good]);
  let failures = 0;
  for (let n = 0; n < 100; n++) if ((await post(gateway)).status === 503) failures += 1;
  assert.equal(failures, 5);
});

test('servers that are ours are told who calls; foreign ones learn nothing of the caller', async (t) => {
  for (const serversAre of ['ours', 'foreign'] as const) {
    let seen: IncomingMessage['headers'] | undefined;
    const server = await startHttp(t, (request: IncomingMessage, response: ServerResponse) => {
      seen = request.headers;
      request.resume();
      response.end('{}');
    });
    const gateway = await startGateway(t, [server], { serversAre });
    await post(gateway);
    assert.equal(seen?.authorization !== undefined, serversAre === 'ours', serversAre);
    assert.notEqual(seen?.authorization, gateway.authorization);
  }
});

test('a reload with other servers that are foreign, or ours, changes nothing: neither is told what the other may know', async (t) => {
  for (const [serversAre, next] of [
    ['ours', 'foreign'],
    ['foreign', 'ours'],
  ] as const) {
    const asked: string[] = [];
    const named = (name: string) =>
      startHttp(t, (request, response) => {
        request.resume();
        asked.push(
          `${name} ${request.headers.authorization === undefined ? 'stranger' : 'caller'}`,
        );
        response.end('{}');
      });
    const gateway = await startGateway(t, [await named('first')], { serversAre });
    const known = serversAre === 'ours' ? 'caller' : 'stranger';
    const servers = [new URL('/mcp', await named('second'))];
    await assert.rejects(gateway.reload({ servers, serversAre: next }), { code: 'CONFIG_INVALID' });
    await post(gateway);
    await gateway.reload({ servers });
    await post(gateway);
    assert.deepEqual(asked, [`first ${known}`, `second ${known}`], 'control: servers alone');
  }
});

test('a server is called by its URL with the query, also when it is checked', async (t) => {
  const asked = new Set<string>();
  const server = await startHttp(t, async (request, response) => {
    asked.add(`${JSON.parse(await text(request)).method} ${request.url}`);
    response.end('{}');
  });
  const gateway = await startGateway(t, [], {
    servers: [new URL('/mcp?key=v&x#y', server)],
    serversAre: 'foreign',
    healthInterval: 50,
  });
  await post(gateway);
  while (asked.size < 2) await sleep(20);
  assert.deepEqual(asked, new Set(['initialize /mcp?key=v&x', 'server/discover /mcp?key=v&x']));
});

test('weights share what is new', async (t) => {
  const counts = { heavy: 0, light: 0 };
  const counting = (name: keyof typeof counts) =>
    startHttp(t, (request, response) => {
      request.resume();
      counts[name] += 1;
      response.end();
    });
  const servers = [await counting('heavy'), await counting('light')];
  // Checks would be counted, too.
  const gateway = await startGateway(t, servers, {
    serverWeights: [9, 1],
    healthInterval: 600_000,
  });
  for (let n = 0; n < 400; n++) await (await post(gateway)).text();
  assert.equal(counts.heavy + counts.light, 400);
  // 40 expected, with a standard deviation of 6: seven of them is beyond any luck.
  assert.ok(counts.light > 0 && counts.light < 82, `${counts.light} of 400`);
});

function dnsConfig(url: string): GatewayConfig {
  const spec = gatewaySpec({ runtime: '/nowhere', state: '/nowhere' });
  return loadConfig('gateway', spec, {
    argv: ['--servers', url, '--servers-from', 'dns'],
    env: {},
  });
}

test('with DNS each address of a name is a server, which is still called by its name', async (t) => {
  const places = await placesNow(dnsConfig('http://localhost:8790/mcp'));
  assert.ok(places.length >= 1);
  for (const { url, host } of places) {
    assert.match(url.href, /^http:\/\/(127\.0\.0\.1|\[::1\]):8790\/mcp$/);
    assert.equal(host, 'localhost:8790');
  }
  let host: string | undefined;
  const server = await startHttp(t, (request, response) => {
    host = request.headers.host;
    request.resume();
    response.end();
  });
  const named = server.replace('127.0.0.1', 'localhost');
  const gateway = await startGateway(t, [named], { serversFrom: 'dns', serversAre: 'foreign' });
  assert.equal((await post(gateway)).status, 200);
  assert.equal(host, new URL(named).host);
});

test('a name without an address keeps a gateway from starting', async () => {
  await assert.rejects(placesNow(dnsConfig('http://no-such-host.invalid/mcp')), {
    code: 'CONFIG_INVALID',
  });
});
