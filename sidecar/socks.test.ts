import assert from 'node:assert/strict';
import { connect, type Socket } from 'node:net';
import { test } from 'node:test';
import { connect as connectTls } from 'node:tls';
import {
  type Rig,
  type Runner,
  requestRecords,
  rig,
  standStill,
  statusOf,
  until,
} from './test-rig.ts';

const GREETING = Buffer.from([5, 1, 0]);

function request(type: number, address: Buffer, port: number, command = 1): Buffer {
  return Buffer.concat([
    Buffer.from([5, command, 0, type]),
    address,
    Buffer.from([port >> 8, port & 255]),
  ]);
}

function byName(name: string, port: number): Buffer {
  const bytes = Buffer.from(name, 'latin1');
  return request(3, Buffer.concat([Buffer.from([bytes.length]), bytes]), port);
}

interface Client {
  readonly socket: Socket;
  received: Buffer;
  closed: boolean;
}

function open(runner: Runner): Client {
  const client: Client = {
    socket: connect({ path: runner.door }),
    received: Buffer.alloc(0),
    closed: false,
  };
  client.socket
    .on('data', (chunk: Buffer) => (client.received = Buffer.concat([client.received, chunk])))
    .on('error', () => {})
    .once('close', () => (client.closed = true));
  return client;
}

/** Greets, asks, and waits for the reply to what it asked. */
async function ask(runner: Runner, wish: Buffer): Promise<Client> {
  const client = open(runner);
  client.socket.write(Buffer.concat([GREETING, wish]));
  await until(() => client.received.length >= 12 || client.closed);
  assert.deepEqual([...client.received.subarray(0, 2)], [5, 0]);
  return client;
}

const replyOf = ({ received }: Client) => received[3];

async function bound(built: Rig): Promise<{ runner: Runner; ca: string }> {
  const runner = await built.attach();
  return { runner, ca: await runner.bind() };
}

test('plain HTTP by SOCKS5 is decided request by request, for the host that was asked for', async (t) => {
  const built = await rig(t);
  const { runner } = await bound(built);
  const client = await ask(runner, byName('api.allowed.test', 80));
  assert.equal(replyOf(client), 0);
  client.received = Buffer.alloc(0);
  client.socket.write('GET /v1/a HTTP/1.1\r\nHost: api.allowed.test\r\n\r\n');
  await until(() => client.received.includes('hello'));
  assert.equal(built.proxy.requests[0]?.url, 'http://api.allowed.test/v1/a');
  client.received = Buffer.alloc(0);
  client.socket.write('GET /v2/a HTTP/1.1\r\nHost: api.allowed.test\r\n\r\n');
  await until(() => client.received.includes('path_not_allowed'));
  assert.equal(statusOf(client.received.toString('latin1')), 403);
  client.socket.write('GET /v1/a HTTP/1.1\r\nHost: evil.test\r\n\r\n');
  await until(() => client.received.includes('host_mismatch'));
  assert.equal(built.proxy.requests.length, 1);
});

test('TLS by SOCKS5 ends here where a rule looks into it', async (t) => {
  const built = await rig(t);
  const { runner, ca } = await bound(built);
  const { socket } = await ask(runner, byName('seen.allowed.test', 443));
  socket.removeAllListeners('data');
  const tls = connectTls({ socket, servername: 'seen.allowed.test', ca: [ca] });
  let text = '';
  tls.on('data', (chunk: Buffer) => (text += chunk.toString('latin1')));
  tls.write('GET /v1/a HTTP/1.1\r\nHost: seen.allowed.test\r\n\r\n');
  await until(() => text.includes('hello'));
  assert.equal(built.proxy.requests[0]?.url, 'https://seen.allowed.test/v1/a');
  tls.destroy();
});

test('a tunnel by SOCKS5 carries TLS to the host that was asked for and nothing else', async (t) => {
  const built = await rig(t);
  const { runner } = await bound(built);
  const plain = await ask(runner, byName('tls.allowed.test', 443));
  assert.equal(replyOf(plain), 0);
  plain.socket.write('GET / HTTP/1.1\r\n\r\n');
  await until(() => plain.closed);
  assert.equal(built.proxy.tunnels.length, 0);
  const { socket } = await ask(runner, byName('tls.allowed.test', 443));
  socket.removeAllListeners('data');
  connectTls({ socket, servername: 'tls.allowed.test' }).on('error', () => {});
  await until(() => built.proxy.tunnels.length === 1);
  assert.equal(built.proxy.tunnels[0]?.url, 'tls.allowed.test:443');
  socket.destroy();
});

const REFUSED: readonly [what: string, wish: Buffer, reply: number, reason: string][] = [
  ['a host without a rule', byName('other.test', 443), 2, 'host_not_allowed'],
  ['a host that is denied', byName('evil.test', 443), 2, 'host_denied'],
  ['another port', byName('tls.allowed.test', 22), 2, 'port_not_allowed'],
  ['a NUL in the name', byName('evil.test\0.allowed.test', 443), 2, 'control_char'],
  ['a line break in the name', byName('tls.allowed.test\r\nX: y', 443), 2, 'control_char'],
  ['a port in the name', byName('tls.allowed.test:443', 443), 2, 'host_malformed'],
  ['an empty name', byName('', 443), 2, 'host_malformed'],
  [
    'the metadata address',
    request(1, Buffer.from([169, 254, 169, 254]), 80),
    2,
    'ip_forbidden_class',
  ],
  [
    'loopback as IPv6',
    request(4, Buffer.from('00000000000000000000000000000001', 'hex'), 80),
    2,
    'ip_forbidden_class',
  ],
  [
    'an address of IPv4 as one of IPv6',
    request(4, Buffer.from('00000000000000000000ffff7f000001', 'hex'), 80),
    2,
    'ip_not_allowed',
  ],
  ['an address as a name', byName('0x7f.1', 80), 2, 'ip_not_allowed'],
  ['BIND', request(3, Buffer.from('\x01a'), 80, 2), 7, 'method_not_allowed'],
  ['UDP ASSOCIATE', request(3, Buffer.from('\x01a'), 80, 3), 7, 'method_not_allowed'],
  ['an unknown kind of address', request(9, Buffer.from('abcd'), 80), 8, 'request_line_malformed'],
];

for (const [what, wish, reply, reason] of REFUSED)
  test(`${what} is refused by SOCKS5 with ${reason}, with one record`, async (t) => {
    const built = await rig(t);
    const { runner } = await bound(built);
    const client = await ask(runner, wish);
    assert.equal(replyOf(client), reply);
    await until(() => client.closed && requestRecords(built.proxy).length === 1);
    const { ingress, reason: recorded } = requestRecords(built.proxy)[0] ?? {};
    assert.deepEqual({ ingress, recorded }, { ingress: 'socks5', recorded: reason });
    assert.deepEqual([built.proxy.requests.length, built.proxy.tunnels.length], [0, 0]);
    const control = await ask(runner, byName('api.allowed.test', 80));
    assert.equal(replyOf(control), 0, 'control: an allowed host is reached');
    control.socket.destroy();
  });

test('a client that wants to log in is told that there is no way to', async (t) => {
  const built = await rig(t);
  const { runner } = await bound(built);
  const client = open(runner);
  client.socket.write(Buffer.from([5, 1, 2]));
  await until(() => client.closed);
  assert.deepEqual([...client.received], [5, 255]);
});

test('bytes may come one by one, and not for ever', async (t) => {
  const built = await rig(t, { headerTimeout: 1_500 });
  const { runner } = await bound(built);
  const client = open(runner);
  for (const byte of Buffer.concat([GREETING, byName('api.allowed.test', 80)])) {
    client.socket.write(Buffer.from([byte]));
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
  await until(() => client.received.length >= 12);
  assert.equal(replyOf(client), 0);
  const slow = open(runner);
  slow.socket.write(GREETING);
  await until(() => slow.closed);
  const silent = open(runner);
  await until(() => silent.closed);
  assert.equal(silent.received.length, 0);
});

test('what came in time is read, also by a sidecar that was held up until after it', async (t) => {
  const built = await rig(t, { headerTimeout: 500 });
  const { runner } = await bound(built);
  const client = open(runner);
  client.socket.write(GREETING);
  await until(() => client.received.length === 2);
  await standStill(700, () => client.socket.write(byName('api.allowed.test', 80)));
  await until(() => client.received.length >= 12 || client.closed);
  assert.equal(replyOf(client), 0);
});
