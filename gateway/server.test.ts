import assert from 'node:assert/strict';
import { rmSync } from 'node:fs';
import { request as httpRequest } from 'node:http';
import { connect } from 'node:net';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { type TestContext, test } from 'node:test';
import { loadConfig } from '#core/config';
import { silentLogger } from '#core/log';
import { Metrics } from '#core/metrics';
import { gatewaySpec } from './config.ts';
import { LOOPBACK_HOSTS } from './host-origin.ts';
import { createGateway } from './server.ts';
import { gatewayConfig, startGateway, startHttp } from './testing.ts';

async function startCounting(t: TestContext) {
  let requests = 0;
  const server = await startHttp(t, (request, response) => {
    request.resume();
    if (request.url === '/mcp') requests += 1;
    response.writeHead(request.url === '/readyz' || request.url === '/mcp' ? 200 : 404).end('{}');
  });
  const gateway = await startGateway(t, [server]);
  return { ...gateway, requests: () => requests };
}

/** Any request, with a Host header and a path that fetch would not send. */
function send(origin: string, method: string, path: string, headers: Record<string, string>) {
  return new Promise<{ status: number; headers: Record<string, unknown>; body: string }>(
    (resolve, reject) => {
      const request = httpRequest(origin, { method, path, headers }, (response) => {
        text(response).then(
          (body) => resolve({ status: response.statusCode ?? 0, headers: response.headers, body }),
          reject,
        );
      });
      request.on('error', reject).end(method === 'POST' ? '{}' : undefined);
    },
  );
}

const CASES = [
  ['POST', '/mcp', {}, 200, 'control'],
  ['GET', '/mcp', {}, 200, 'control'],
  ['DELETE', '/mcp', {}, 200, 'control'],
  ['POST', '/mcp?x=1', {}, 200, 'a query is not the path'],
  ['POST', 'http://localhost:1/mcp?x=1', {}, 200, 'an absolute target'],
  ['POST', 'http://localhost/mcp', { host: 'attacker.example' }, 200, 'the target is above Host'],
  ['POST', 'http://attacker.example/mcp', { host: 'localhost' }, 403, 'a name in the target'],
  ['POST', 'http://localhost@attacker.example/mcp', {}, 403, 'a user is no name'],
  ['POST', 'http://localhost/', {}, 404, 'another path'],
  ['POST', '/mcp', { origin: 'http://localhost:3000' }, 200, 'a page of this machine'],
  ['POST', '/mcp', { host: 'attacker.example' }, 403, 'a rebound name'],
  ['POST', '/mcp', { origin: 'https://attacker.example' }, 403, 'a page of another site'],
  ['GET', '/mcp', { host: 'attacker.example' }, 403, 'a rebound name'],
  ['PUT', '/mcp', {}, 405, 'no method of the protocol'],
  ['OPTIONS', '/mcp', {}, 405, 'no page of another site is ever allowed'],
  ['POST', '/', {}, 404, 'another path'],
  ['POST', '/mcp/', {}, 404, 'another path'],
  ['POST', '/mcp/../mcp', {}, 404, 'another spelling'],
  ['GET', '/.well-known/oauth-protected-resource', {}, 404, 'not published yet'],
  ['POST', '/mcp', { authorization: 'Bearer wrong' }, 401, 'a wrong token'],
  ['POST', '/mcp', { authorization: 'Basic dXNlcjpwYXNz' }, 401, 'another scheme'],
] as const;

for (const [method, path, headers, status, why] of CASES)
  test(`${method} ${path} ${JSON.stringify(headers)} is ${status}: ${why}`, async (t) => {
    const gateway = await startCounting(t);
    const answer = await send(gateway.origin, method, path, {
      authorization: gateway.authorization,
      ...headers,
    });
    assert.equal(answer.status, status);
    assert.equal(gateway.requests(), status === 200 ? 1 : 0);
    if (status === 200) return;
    const { error } = JSON.parse(answer.body);
    assert.equal(error.code, -32_000);
    assert.equal(typeof error.data.code, 'string');
    assert.match(String(answer.headers['x-request-id']), /^req-/);
    if (status === 405) assert.equal(answer.headers['allow'], 'POST, GET, DELETE');
  });

for (const path of ['/mcp', 'http://localhost/mcp', '/other'])
  test(`two Host headers are 400, in whatever order, and no server hears of it: ${path}`, async (t) => {
    const gateway = await startCounting(t);
    const { host } = new URL(gateway.origin);
    for (const hosts of [
      [host, 'attacker.example'],
      ['attacker.example', host],
      [host, host],
    ])
      assert.equal(await statusOf(gateway, path, hosts), 400, hosts.join());
    assert.equal(gateway.requests(), 0);
    assert.equal(await statusOf(gateway, path, [host]), path === '/other' ? 404 : 200, 'control');
  });

/** The status of a request that `node:http` would not send. */
async function statusOf(
  { origin, authorization }: { origin: string; authorization: string },
  path: string,
  hosts: readonly string[],
): Promise<number> {
  const { hostname, port } = new URL(origin);
  const socket = connect(Number(port), hostname);
  const lines = [
    `POST ${path} HTTP/1.1`,
    ...hosts.map((host) => `Host: ${host}`),
    `Authorization: ${authorization}`,
    'Content-Length: 2',
    'Connection: close',
  ];
  socket.write(`${lines.join('\r\n')}\r\n\r\n{}`);
  return Number((await text(socket)).split(' ', 2)[1]);
}

test('A10: no answer is to be taken for another type than it says, relayed or our own', async (t) => {
  const gateway = await startCounting(t);
  const { authorization } = gateway;
  for (const [headers, status] of [
    [{ authorization }, 200],
    [{}, 401],
  ] as const) {
    const answer = await send(gateway.origin, 'POST', '/mcp', headers);
    assert.equal(answer.status, status);
    assert.equal(answer.headers['x-content-type-options'], 'nosniff');
  }
});

test('a token is not looked at before the name and the page are', async (t) => {
  const gateway = await startCounting(t);
  const answer = await send(gateway.origin, 'POST', '/mcp', { host: 'attacker.example' });
  assert.equal(answer.status, 403);
});

test('L1: probes and metrics need no token and tell no secret', async (t) => {
  const gateway = await startCounting(t);
  await fetch(`${gateway.origin}/mcp`, { method: 'POST', body: '{}' });
  for (const [path, status] of [
    ['/livez', 'live'],
    ['/readyz', 'ready'],
    ['/health', 'ready'],
  ] as const) {
    const response = await fetch(gateway.origin + path);
    assert.equal(response.status, 200, path);
    assert.deepEqual(await response.json(), { status });
  }
  const metrics = await (await fetch(`${gateway.origin}/metrics`)).text();
  assert.match(metrics, /outrider_requests_total\{status="401",part="gateway"\} 1/);
  assert.match(metrics, /outrider_auth_failures_total\{reason="missing",part="gateway"\} 1/);
  assert.match(metrics, /outrider_backend_up\{backend="0",part="gateway"\} 1/);
  assert.ok(!metrics.includes(gateway.token));
});

test('L1: a gateway none of whose servers is ready is alive and not ready', async (t) => {
  const { origin } = await startGateway(t, ['http://127.0.0.1:1']);
  assert.equal((await fetch(`${origin}/livez`)).status, 200);
  const response = await fetch(`${origin}/readyz`);
  assert.equal(response.status, 503);
  assert.deepEqual(Object.keys(Object(await response.json()).problems), ['servers']);
});

const deps = () => ({ log: silentLogger, metrics: new Metrics('gateway') });

test('a gateway that could let nobody in does not start', (t) => {
  const { config, root } = gatewayConfig(t);
  assert.doesNotThrow(() => createGateway(config, deps()));
  rmSync(join(root, 'token'));
  assert.throws(() => createGateway(config, deps()), { code: 'CONFIG_INVALID' });
});

test('without authentication everybody of this machine is the local principal', async (t) => {
  const server = await startHttp(t, (request, response) => {
    request.resume();
    response.end('{}');
  });
  const { origin } = await startGateway(t, [server], { insecure: true });
  assert.equal((await fetch(`${origin}/mcp`, { method: 'POST', body: '{}' })).status, 200);
  const foreign = await send(origin, 'POST', '/mcp', { host: 'attacker.example' });
  assert.equal(foreign.status, 403, 'a rebound page is still kept out');
});

for (const host of ['0.0.0.0', '192.0.2.1', 'gateway.example'])
  test(`authentication cannot be switched off at ${host}`, (t) => {
    const { config } = gatewayConfig(t, {
      insecure: true,
      listen: { kind: 'tcp', host, port: 0 },
      allowedHosts: ['gateway.example'],
    });
    assert.throws(() => createGateway(config, deps()), { code: 'CONFIG_INVALID' });
    assert.doesNotThrow(() => createGateway({ ...config, insecure: false }, deps()));
  });

const OPENED = [
  ['127.0.0.1', [...LOOPBACK_HOSTS], true, 'loopback needs no name'],
  ['0.0.0.0', [...LOOPBACK_HOSTS], false, 'nobody said that it is to be reached'],
  ['192.0.2.1', LOOPBACK_HOSTS.toReversed(), false, 'the default in another order'],
  ['0.0.0.0', ['gateway.example'], true, 'somebody did'],
  ['0.0.0.0', ['localhost:8788'], true, 'the published port of a container'],
] as const;

for (const [host, allowedHosts, starts, why] of OPENED)
  test(`a gateway at ${host} for ${allowedHosts.join()} ${starts ? 'starts' : 'does not start'}: ${why}`, (t) => {
    const { config } = gatewayConfig(t, { listen: { kind: 'tcp', host, port: 0 }, allowedHosts });
    const create = () => createGateway(config, deps());
    if (starts) assert.doesNotThrow(create);
    else assert.throws(create, { code: 'CONFIG_INVALID', message: /allowedHosts/ });
  });

const BOUNDS = [
  ['--health-interval', '0s', '99ms', '100ms'],
  ['--session-max', '0s', '999ms', '1s'],
  ['--max-body', '0', '1023', '1KiB'],
] as const;

for (const [option, ...values] of BOUNDS)
  test(`${option} takes ${values[2]} and nothing below, with which nobody would be served`, () => {
    const spec = gatewaySpec({ runtime: '/nowhere', state: '/nowhere' });
    const taken = values.map((value) => {
      try {
        loadConfig('gateway', spec, { argv: [option, value], env: {} });
        return true;
      } catch (error) {
        assert.match(Object(error).message, /must be at least/);
        return false;
      }
    });
    assert.deepEqual(taken, [false, false, true]);
  });

test('a gateway before no server does not start', (t) => {
  const { config } = gatewayConfig(t, { servers: [] });
  assert.throws(() => createGateway(config, deps()), { code: 'CONFIG_INVALID' });
});

test('stopping lets a running call end', async (t) => {
  let arrived: () => void = () => {};
  const running = new Promise<void>((resolve) => {
    arrived = resolve;
  });
  const server = await startHttp(t, (request, response) => {
    request.resume();
    arrived();
    setTimeout(() => response.end('late'), 150);
  });
  const gateway = await startGateway(t, [server], { drainTimeout: 60_000 });
  const call = fetch(`${gateway.origin}/mcp`, {
    method: 'POST',
    headers: { authorization: gateway.authorization },
    body: '{}',
  });
  await running;
  await gateway.stop();
  assert.equal(await (await call).text(), 'late');
  await assert.rejects(fetch(`${gateway.origin}/livez`));
});
