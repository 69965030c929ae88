import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { createServer, type NetConnectOpts, type Server, type Socket } from 'node:net';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import {
  createServer as createTlsServer,
  getCACertificates,
  setDefaultCACertificates,
  TLSSocket,
} from 'node:tls';
import { temporaryDirectory } from '#core/testing/directory';
import { makePki } from '#core/testing/pki';
import { type ConnectOptions, connector } from './connect.ts';
import { ask, poolTo, until } from './test-rig.ts';

const LONG_MS = 60_000;
/** In time for what answers, on a loaded machine as well. */
const SHORT_MS = 1_000;
const HOST = '127.0.0.1';
const OK = 'HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi';

interface Told {
  readonly error: Error | null;
  readonly socket: Socket | null;
}

/** What a connector tells, each time that it does. */
function told(t: TestContext, to: NetConnectOpts, options: ConnectOptions): Told[] {
  const calls: Told[] = [];
  const connect = connector(to, options);
  connect((error, socket) => {
    calls.push({ error, socket });
    socket?.on('error', () => {});
    t.after(() => socket?.destroy());
  });
  return calls;
}

async function firstOf(calls: readonly Told[]): Promise<Told> {
  await until('the connector to tell', () => calls.length > 0);
  const [first] = calls;
  assert.ok(first);
  return first;
}

function codeOf({ error }: Told): unknown {
  return error && 'code' in error ? error.code : error;
}

/** Where to connect to, and every connection that was made, from the other side. */
async function listening(t: TestContext, server: Server, path?: string) {
  const sockets: Socket[] = [];
  server.on('connection', (socket: Socket) => {
    sockets.push(socket);
    socket.on('error', () => {});
  });
  await new Promise<void>((resolve) => {
    if (path === undefined) server.listen(0, HOST, resolve);
    else server.listen(path, resolve);
  });
  t.after(() => {
    server.close();
    for (const socket of sockets) socket.destroy();
  });
  const address = server.address();
  const port = address !== null && typeof address === 'object' ? address.port : 0;
  return { sockets, port, to: path === undefined ? { host: HOST, port } : { path } };
}

function answer(socket: Socket): void {
  socket.on('error', () => {});
  socket.on('data', () => socket.write(OK));
}

/** A server over TLS with a certificate for 127.0.0.1 and localhost, and the names that it was asked for. */
async function tlsServer(t: TestContext) {
  const { cert, key, ca } = makePki(t).issue('server');
  const asked: unknown[] = [];
  const server = createTlsServer(
    { cert: readFileSync(cert), key: readFileSync(key), ALPNProtocols: ['h2', 'http/1.1'] },
    (socket) => {
      asked.push({ name: socket.servername, protocol: socket.alpnProtocol });
      answer(socket);
    },
  );
  server.on('tlsClientError', () => {});
  return { ...(await listening(t, server)), asked, ca: readFileSync(ca, 'utf8') };
}

/** As an operator does, for the length of a test. */
function trust(t: TestContext, ca: string): void {
  const before = getCACertificates('default');
  setDefaultCACertificates([...before, ca]);
  t.after(() => setDefaultCACertificates(before));
}

for (const [what, path] of [
  ['TCP', undefined],
  ['a unix socket', 'socket'],
] as const)
  test(`requests go over ${what}`, async (t) => {
    const at = path && join(temporaryDirectory(t), path);
    const { to, port, sockets } = await listening(t, createServer(answer), at);
    const pool = poolTo(t, { port }, { connect: connector(to, { timeoutMs: LONG_MS }) });
    for (const _ of [1, 2]) {
      const { outcome, body } = await ask(pool).over();
      assert.deepEqual([outcome, body], [200, 'hi']);
      await until('the connection to be free', () => pool.busy === 0);
    }
    assert.equal(sockets.length, 1);
  });

for (const [name, seen] of [
  ['localhost', 'localhost'],
  [HOST, false], // an address is no name to ask for (RFC 6066, 3)
] as const)
  test(`requests go over TLS to ${name}, which the certificate names`, async (t) => {
    const { to, port, asked, ca } = await tlsServer(t);
    trust(t, ca);
    const connect = connector(to, { timeoutMs: LONG_MS, tls: { name } });
    const { outcome, body } = await ask(poolTo(t, { port }, { connect })).over();
    assert.deepEqual([outcome, body], [200, 'hi']);
    assert.deepEqual(asked, [{ name: seen, protocol: 'http/1.1' }]);
  });

for (const name of ['other.test', '127.0.0.9'])
  test(`a certificate for another name than ${name} is refused, and the connection ended`, async (t) => {
    const { to, sockets, ca } = await tlsServer(t);
    trust(t, ca);
    const calls = told(t, to, { timeoutMs: LONG_MS, tls: { name } });
    assert.equal(codeOf(await firstOf(calls)), 'ERR_TLS_CERT_ALTNAME_INVALID');
    await until('the end of the connection', () => sockets.every(({ destroyed }) => destroyed));
    assert.equal(sockets.length, 1);
  });

test('a certificate that nobody vouches for is refused, and taken once somebody does', async (t) => {
  const { to, sockets, ca } = await tlsServer(t);
  const options = { timeoutMs: LONG_MS, tls: { name: 'localhost' } };
  const calls = told(t, to, options);
  assert.match(String(codeOf(await firstOf(calls))), /SELF_SIGNED|UNABLE_TO/);
  await until('the end of the connection', () => sockets.every(({ destroyed }) => destroyed));
  trust(t, ca);
  const { error, socket } = await firstOf(told(t, to, options));
  assert.equal(error, null);
  assert.ok(socket instanceof TLSSocket && socket.authorized);
  assert.equal(calls.length, 1);
});

test('a server that takes connections and speaks no TLS is given up after the time', async (t) => {
  const { to, sockets } = await listening(
    t,
    createServer((socket) => socket.resume()),
  );
  const plain = await firstOf(told(t, to, { timeoutMs: LONG_MS }));
  assert.equal(plain.error, null);
  const began = performance.now();
  const calls = told(t, to, { timeoutMs: 50, tls: { name: 'localhost' } });
  assert.equal(codeOf(await firstOf(calls)), 'ETIMEDOUT');
  assert.ok(performance.now() - began >= 49);
  await until('the end of the connection', () => sockets[1]?.destroyed === true);
  assert.ok(!sockets[0]?.destroyed);
  assert.equal(calls.length, 1);
});

test('a connection that was there in time counts, also where this process was held up beyond it', async (t) => {
  const path = join(temporaryDirectory(t), 'socket');
  const { sockets } = await listening(t, createServer(answer), path);
  const calls = told(t, { path }, { timeoutMs: 50 });
  for (const over = performance.now() + 100; performance.now() < over; );
  assert.equal((await firstOf(calls)).error, null);
  await until('the other side to see it', () => sockets.length === 1);
});

test('one that answers a hello with something else fails at once', async (t) => {
  const { to, sockets } = await listening(
    t,
    createServer((socket) => socket.on('data', () => socket.write(OK))),
  );
  const calls = told(t, to, { timeoutMs: LONG_MS, tls: { name: 'localhost' } });
  const { error, socket } = await firstOf(calls);
  assert.ok(error instanceof Error);
  assert.equal(socket, null);
  await until('the end of the connection', () => sockets.every(({ destroyed }) => destroyed));
});

/** Who takes nothing, or leaves within the handshake, and what that is called. */
const FAILURES: readonly [what: string, tls: boolean, code: string][] = [
  ['a port without a listener', false, 'ECONNREFUSED'],
  ['a port without a listener, over TLS', true, 'ECONNREFUSED'],
  ['a server that leaves within the handshake', true, 'ECONNRESET'],
];

for (const [what, tls, code] of FAILURES)
  test(`${what}: the failure is told once, also when the time is over`, async (t) => {
    const server = createServer((socket) => socket.on('data', () => socket.end()));
    const { to, sockets } = await listening(t, server);
    if (code === 'ECONNREFUSED') await new Promise((resolve) => server.close(resolve));
    const over = performance.now() + 2 * SHORT_MS;
    const named = tls ? { name: 'localhost' } : undefined;
    const calls = told(t, to, { timeoutMs: SHORT_MS, tls: named });
    assert.equal(codeOf(await firstOf(calls)), code);
    await until('the time to be over', () => performance.now() > over);
    assert.equal(calls.length, 1);
    assert.ok(sockets.every(({ destroyed }) => destroyed));
  });

test('a socket that is not there is a failure; it is one once it is', async (t) => {
  const path = join(temporaryDirectory(t), 'socket');
  const none = told(t, { path }, { timeoutMs: LONG_MS });
  assert.equal(codeOf(await firstOf(none)), 'ENOENT');
  await listening(t, createServer(answer), path);
  const { error } = await firstOf(told(t, { path }, { timeoutMs: LONG_MS }));
  assert.equal(error, null);
});

for (const tls of [false, true])
  test(`the time ends with the connecting: what was made in time stays${tls ? ', over TLS' : ''}`, async (t) => {
    const server = tls ? await tlsServer(t) : await listening(t, createServer(answer));
    if ('ca' in server && typeof server.ca === 'string') trust(t, server.ca);
    const over = performance.now() + 3 * SHORT_MS;
    const named = tls ? { name: 'localhost' } : undefined;
    const calls = told(t, server.to, { timeoutMs: 2 * SHORT_MS, tls: named });
    const { error, socket } = await firstOf(calls);
    assert.equal(error, null);
    assert.ok(socket);
    await until('the time to be over', () => performance.now() > over);
    let heard = '';
    socket.on('data', (bytes: Buffer) => {
      heard += bytes.toString('latin1');
    });
    socket.write('GET / HTTP/1.1\r\nhost: a\r\n\r\n');
    await until('an answer', () => heard === OK);
    assert.equal(calls.length, 1);
    for (const event of ['secureConnect', 'connect']) assert.equal(socket.listenerCount(event), 0);
  });
