import assert from 'node:assert/strict';
import { request } from 'node:http';
import { connect, createServer, type Socket } from 'node:net';
import { networkInterfaces } from 'node:os';
import type { Duplex } from 'node:stream';
import { type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { connect as connectTls } from 'node:tls';
import { classifyIp, parseIp, tunnelTarget } from '#policies';
import { createRedactor } from './redaction.ts';
import {
  BOUNDARY,
  CERTIFICATE,
  egressPolicy,
  type Mesh,
  ROLE,
  startDns,
  startMesh,
  startOrigin,
} from './testing.ts';
import { readHelloFor, splice } from './tunnel.ts';

interface Opened {
  readonly status: number;
  readonly reason: unknown;
  readonly socket: Socket | undefined;
}

/** A CONNECT as a sidecar sends it. */
async function open(started: Mesh, authority: string, token?: string): Promise<Opened> {
  const sent = request({
    socketPath: started.addresses.listen.kind === 'unix' ? started.addresses.listen.path : '',
    method: 'CONNECT',
    path: authority,
    headers: {
      host: authority,
      'proxy-authorization': `Bearer ${token ?? (await started.token())}`,
    },
  });
  return new Promise((resolve, reject) => {
    sent.on('error', reject);
    sent.on('connect', (response, socket: Socket) => {
      const reason = response.headers['x-outrider-reason'];
      const status = response.statusCode ?? 0;
      if (status !== 200) socket.destroy();
      resolve({ status, reason, socket: status === 200 ? socket : undefined });
    });
    sent.end();
  });
}

/** An address of this machine that counts as public, for a real tunnel to a real origin. */
const own = Object.values(networkInterfaces())
  .flat()
  .map((one) => one?.address ?? '')
  .find(
    (address) =>
      !address.includes(':') && classifyIp(parseIp(address) ?? new Uint8Array(16)) === 'public',
  );

/** `api.example` may be tunnelled to, on the port given; it is at `address`. */
async function mesh(
  t: TestContext,
  port: number,
  address = '203.0.113.7',
  limits: Readonly<Record<string, unknown>> = { concurrent: 2 },
) {
  const dns = await startDns(t, { 'api.example': [address], 'inside.example': ['10.0.0.1'] });
  const rules = ['api.example', 'inside.example'].map((host, at) => ({
    id: `tunnel-${at}`,
    hosts: [host],
    ports: [port],
    protocols: ['tunnel'],
    limits,
  }));
  const looked = { id: 'looked-at', hosts: ['web.example'], methods: ['GET'], paths: 'any' };
  const started = await startMesh(t, {
    documents: [ROLE, BOUNDARY, egressPolicy([...rules, looked])],
    config: { dns: { servers: [dns.address] }, connectTimeout: '2s' },
  });
  return { started, asked: dns.asked };
}

const refusals: readonly (readonly [string, number, string])[] = [
  ['evil.example:443', 403, 'host_not_allowed'],
  ['api.example:22', 403, 'port_not_allowed'],
  ['inside.example:443', 403, 'resolved_ip_forbidden'],
  ['127.0.0.1:443', 403, 'ip_forbidden_class'],
  ['web.example:443', 403, 'interception_required'],
  ['http-api.outrider.internal:443', 405, 'connect_not_allowed'],
];
for (const [authority, status, reason] of refusals)
  test(`CONNECT ${authority} is refused as ${reason} before any 200`, async (t) => {
    const { started } = await mesh(t, 443);
    const opened = await open(started, authority);
    assert.equal(opened.reason, reason);
    assert.notEqual(opened.status, 200);
    assert.ok([status, 403, 405].includes(opened.status));
    const requests = started.records().filter(({ event }) => event === 'request');
    assert.deepEqual(
      requests.map((record) => [record['ingress'], record['reason']]),
      [['connect', reason]],
    );
  });

test('CONNECT without a good token is 401', async (t) => {
  const { started } = await mesh(t, 443);
  assert.equal((await open(started, 'api.example:443', 'x.y.z')).status, 401);
});

/** The record of the tunnel, once it is there. */
async function tunnelRecord(started: Mesh): Promise<Record<string, unknown>> {
  for (let tries = 0; tries < 100; tries++) {
    const record = started.records().find(({ event }) => event === 'request');
    if (record) return record;
    await sleep(20);
  }
  throw new Error('no record came');
}

/** TLS through an open tunnel; resolves when it is there or the tunnel has been closed. */
function handshake(socket: Duplex, servername: string | undefined): Promise<Socket | undefined> {
  return new Promise((resolve) => {
    const tls = connectTls({
      socket,
      ca: CERTIFICATE,
      ...(servername === undefined ? {} : { servername }),
    });
    tls.on('error', () => resolve(undefined));
    tls.on('close', () => resolve(undefined));
    tls.on('secureConnect', () => resolve(tls));
  });
}

const hellos: readonly (readonly [string, string | undefined, string])[] = [
  ['another server name', 'evil.example', 'sni_mismatch'],
  ['no server name', undefined, 'sni_missing'],
];
for (const [what, servername, reason] of hellos)
  test(`a tunnel whose hello has ${what} is closed, and nothing is dialled`, async (t) => {
    const { started } = await mesh(t, 443);
    const { socket, status } = await open(started, 'api.example:443');
    assert.equal(status, 200);
    assert.ok(socket);
    assert.equal(await handshake(socket, servername), undefined);
    const record = await tunnelRecord(started);
    assert.equal(record['reason'], reason);
    assert.equal(record['code'], 'EGRESS_DENIED');
  });

/** The tunnel's own two steps between a loopback client and a loopback origin, without the proxy around them. */
async function bareTunnel(t: TestContext, originPort: number, idleMs = 5_000): Promise<Socket> {
  const canonical = tunnelTarget('api.example:443');
  assert.ok(canonical.ok);
  const carry = async (caller: Socket): Promise<void> => {
    try {
      const hello = await readHelloFor(canonical.target, caller, Buffer.alloc(0), 500);
      await splice(caller, connect(originPort, '127.0.0.1'), hello, { idleMs });
    } catch {
      caller.destroy();
    }
  };
  const server = createServer((caller) => void carry(caller));
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.after(() => server.close());
  const address = server.address();
  return connect(typeof address === 'object' && address ? address.port : 0, '127.0.0.1');
}

test('the right server name is let through, byte for byte; another never reaches the origin', async (t) => {
  const origin = await startOrigin(t, undefined, { tls: true });
  const good = await handshake(await bareTunnel(t, origin.port), 'api.example');
  assert.ok(good);
  good.destroy();
  assert.equal(origin.connections(), 1);
  assert.equal(await handshake(await bareTunnel(t, origin.port), 'localhost'), undefined);
  assert.equal(origin.connections(), 1);
});

test('a hello that never comes ends the wait', async (t) => {
  const origin = await startOrigin(t, undefined, { tls: true });
  const silent = await bareTunnel(t, origin.port);
  await new Promise((resolve) => silent.once('close', resolve));
  assert.equal(origin.connections(), 0);
});

test('a large answer arrives whole though the origin closes at once behind it', async (t) => {
  const large = 'x'.repeat(3_000_000);
  const origin = await startOrigin(t, (_seen, response) => void response.end(large), { tls: true });
  const tls = await handshake(await bareTunnel(t, origin.port), 'api.example');
  assert.ok(tls);
  tls.write('GET / HTTP/1.1\r\nHost: api.example\r\nConnection: close\r\n\r\n');
  let bytes = 0;
  tls.on('data', (piece: Buffer) => {
    bytes += piece.length;
  });
  await new Promise((resolve) => tls.once('close', resolve));
  assert.ok(bytes > large.length);
});

test('a tunnel whose caller is gone already is closed at once on the other side too', async (t) => {
  const accepted: Socket[] = [];
  const server = createServer((socket) => void accepted.push(socket.on('error', () => {})));
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.after(() => server.close());
  const address = server.address();
  const port = typeof address === 'object' && address ? address.port : 0;
  const connected = async () => {
    const socket = connect(port, '127.0.0.1');
    await new Promise((resolve) => socket.once('connect', resolve));
    return socket;
  };
  const [gone, here] = [await connected(), await connected()];
  gone.destroy();
  await new Promise((resolve) => gone.once('close', resolve));
  const bounds = { idleMs: 60_000 };
  const upstream = await connected();
  const spliced = await splice(gone, upstream, Buffer.from('hello'), bounds);
  assert.deepEqual(spliced, { bytesIn: 0, bytesOut: 0 });
  assert.ok(upstream.destroyed);

  const other = await connected();
  const going = splice(here, other, Buffer.from('hello'), bounds);
  await sleep(50);
  assert.equal(other.destroyed, false);
  here.destroy();
  assert.deepEqual(await going, { bytesIn: 5, bytesOut: 0 });
});

test('a secret with a pause in it does not get through a covered connection', async (t) => {
  const secret = 'tunnelled-secret-4711';
  const pipe = async () => {
    const server = createServer();
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    t.after(() => server.close());
    const address = server.address();
    const near = connect(typeof address === 'object' && address ? address.port : 0, '127.0.0.1');
    const far = await new Promise<Socket>((resolve) => server.once('connection', resolve));
    return { near, far };
  };
  for (const [secrets, first, whole] of [
    [[secret], `says ${'*'.repeat(10)}`, `says ${'*'.repeat(secret.length)}.`],
    [[], `says ${secret.slice(0, 10)}`, `says ${secret}.`],
  ] as const) {
    const [caller, origin] = [await pipe(), await pipe()];
    let heard = '';
    const said = (text: string) =>
      new Promise<void>((resolve) => {
        const look = () => heard === text && resolve();
        caller.near.on('data', look);
        look();
      });
    caller.near.on('data', (chunk: Buffer) => (heard += chunk.toString()));
    const cover = createRedactor(secrets).stream();
    const going = splice(caller.far, origin.near, Buffer.alloc(0), { idleMs: 10_000, cover });
    origin.far.write(`says ${secret.slice(0, 10)}`);
    await said(first);
    origin.far.write(`${secret.slice(10)}.`);
    await said(whole);
    origin.far.destroy();
    caller.near.destroy();
    await going;
    assert.equal(cover.found, secrets.length);
  }
});

test('bytes that are no TLS hello close the tunnel', async (t) => {
  const { started } = await mesh(t, 443);
  const { socket } = await open(started, 'api.example:443');
  socket?.on('error', () => {});
  socket?.write('GET / HTTP/1.1\r\nHost: api.example\r\n\r\n');
  assert.equal((await tunnelRecord(started))['reason'], 'protocol_mismatch');
});

const ownPublic = { skip: own === undefined && 'this machine has no public address of its own' };

async function openTls(t: TestContext, limits?: Readonly<Record<string, unknown>>) {
  const origin = await startOrigin(
    t,
    (_seen, response) => void response.end('through the tunnel'),
    {
      host: own ?? '',
      tls: true,
    },
  );
  const { started } = await mesh(t, origin.port, own, limits);
  const { socket } = await open(started, `api.example:${origin.port}`);
  assert.ok(socket);
  const tls = await handshake(socket, 'api.example');
  assert.ok(tls);
  return { origin, started, tls };
}

test('a tunnel carries bytes both ways, and its record counts them', ownPublic, async (t) => {
  const { origin, started, tls } = await openTls(t);
  tls.write('GET / HTTP/1.1\r\nHost: api.example\r\nConnection: close\r\n\r\n');
  const pieces: Buffer[] = [];
  tls.on('data', (piece: Buffer) => pieces.push(piece));
  await new Promise((resolve) => tls.once('close', resolve));
  assert.match(Buffer.concat(pieces).toString(), /through the tunnel/);
  assert.equal(origin.seen.length, 1);
  const record = await tunnelRecord(started);
  assert.equal(record['verdict'], 'allow');
  assert.equal(record['target'], `api.example:${origin.port}`);
  assert.ok(Number(record['bytesIn']) > 300 && Number(record['bytesOut']) > 500);
});

test(
  'a tunnel that the policy no longer allows is closed within a second or two',
  ownPublic,
  async (t) => {
    const { started, tls } = await openTls(t);
    const closed = new Promise((resolve) => tls.once('close', resolve));
    const other = { id: 'other', hosts: ['other.example'], protocols: ['tunnel'] };
    started.writePolicies([ROLE, BOUNDARY, egressPolicy([other])]);
    await closed;
    const { verdict, reason, bytesOut } = await tunnelRecord(started);
    assert.deepEqual([verdict, reason], ['deny', 'host_not_allowed']);
    assert.ok(Number(bytesOut) > 500, 'what had gone through it is recorded');
  },
);

test('stopping the proxy closes open tunnels and writes their records', ownPublic, async (t) => {
  const { started, tls } = await openTls(t);
  const closed = new Promise((resolve) => tls.once('close', resolve));
  await started.proxy.stop();
  await closed;
  const events = started.records().map(({ event }) => event);
  assert.deepEqual(events, ['start', 'policy', 'request', 'end', 'checkpoint']);
});

test('a tunnel in which nothing moves is closed', ownPublic, async (t) => {
  const silent = createServer((socket) => socket.on('error', () => {}));
  await new Promise<void>((resolve) => silent.listen(0, own, resolve));
  t.after(() => silent.close());
  const address = silent.address();
  const port = typeof address === 'object' && address ? address.port : 0;
  const dns = await startDns(t, { 'api.example': [own ?? ''] });
  const started = await startMesh(t, {
    documents: [
      ROLE,
      BOUNDARY,
      egressPolicy([
        { id: 'tunnel', hosts: ['api.example'], ports: [port], protocols: ['tunnel'] },
      ]),
    ],
    config: { dns: { servers: [dns.address] }, tunnelIdle: '200ms' },
  });
  const { socket } = await open(started, `api.example:${port}`);
  assert.ok(socket);
  assert.equal(await handshake(socket, 'api.example'), undefined);
  assert.equal((await tunnelRecord(started))['verdict'], 'allow');
});

test('a tunnel holds a place of its rule from its CONNECT to its end', async (t) => {
  const { started } = await mesh(t, 443);
  const first = await open(started, 'api.example:443');
  const second = await open(started, 'api.example:443');
  assert.deepEqual([first.status, second.status], [200, 200]);
  const third = await open(started, 'api.example:443');
  assert.deepEqual([third.status, third.reason], [429, 'concurrency_limited']);
  first.socket?.destroy();
  await tunnelRecord(started);
  for (let tries = 0; ; tries++) {
    const { status, socket } = await open(started, 'api.example:443');
    socket?.destroy();
    if (status === 200) break;
    assert.ok(tries < 50, 'the place was not given back');
    await sleep(20);
  }
  second.socket?.destroy();
});

const sizes = [
  ['fewer bytes than', { responseBytes: '1MiB', requestBytes: '1MiB' }, 'allow', undefined],
  ['more bytes back than', { responseBytes: '2KiB' }, 'deny', 'BODY_TOO_LARGE'],
  ['more bytes out than', { requestBytes: '500B' }, 'deny', 'BODY_TOO_LARGE'],
] as const;
for (const [what, limits, verdict, code] of sizes)
  test(`a tunnel with ${what} its rule allows: ${verdict}`, ownPublic, async (t) => {
    const origin = await startOrigin(
      t,
      (_seen, response) => void response.end('x'.repeat(10_000)),
      { host: own ?? '', tls: true },
    );
    const { started } = await mesh(t, origin.port, own, limits);
    const { socket } = await open(started, `api.example:${origin.port}`);
    assert.ok(socket);
    const tls = await handshake(socket, 'api.example');
    tls?.write('GET / HTTP/1.1\r\nHost: api.example\r\nConnection: close\r\n\r\n');
    const record = await tunnelRecord(started);
    assert.deepEqual([record['verdict'], record['code']], [verdict, code]);
  });
