import assert from 'node:assert/strict';
import { PassThrough, Readable } from 'node:stream';
import { test } from 'node:test';
import type { Http1Request } from './client.ts';
import { ask, exactServer, poolTo, until } from './test-rig.ts';

// What goes out, and what must not.

const OK = 'HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi';
const NOTHING = 'HTTP/1.1 204 x\r\n\r\n';
const HELD = 'HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf';

// Bodies.

/** A request with such a body, and what of it is on the wire behind the head. */
const BODIES: readonly [string, () => Partial<Http1Request>, RegExp, string][] = [
  [
    'a buffer',
    () => ({ body: Buffer.from('a\0\xff', 'latin1') }),
    /content-length: 3\r\n/i,
    'a\0\xff',
  ],
  ['an empty buffer', () => ({ body: Buffer.alloc(0) }), /content-length: 0\r\n/i, ''],
  ['none, to POST', () => ({}), /content-length: 0\r\n/i, ''],
  [
    'a large buffer',
    () => ({ body: Buffer.alloc(100_000, 'x') }),
    /content-length: 100000\r\n/i,
    'x'.repeat(100_000),
  ],
  [
    'a stream',
    () => ({ body: Readable.from([Buffer.from('ab'), Buffer.from('c')]) }),
    /transfer-encoding: chunked\r\n/i,
    '2\r\nab\r\n1\r\nc\r\n0\r\n\r\n',
  ],
  [
    'an empty stream',
    () => ({ body: Readable.from([]) }),
    /transfer-encoding: chunked\r\n/i,
    '0\r\n\r\n',
  ],
  [
    'a stream of a length',
    () => ({
      body: Readable.from([Buffer.from('ab'), Buffer.from('c')]),
      headers: ['Content-Length', '3'],
    }),
    /content-length: 3\r\n/i,
    'abc',
  ],
  [
    'a buffer with its length',
    () => ({ body: Buffer.from('abc'), headers: ['content-length', '3'] }),
    /content-length: 3\r\n/i,
    'abc',
  ],
];
for (const [what, request, framing, wire] of BODIES)
  test(`as a body ${what} goes out with one framing`, async (t) => {
    const server = await exactServer(t);
    const heard = ask(poolTo(t, server), { method: 'POST', ...request() });
    const connection = await server.connection();
    await connection.said();
    const bodyOf = (): string => connection.received.replace(/^[^]*?\r\n\r\n/, '');
    await until(what, () => bodyOf().length >= wire.length);
    assert.equal(bodyOf(), wire);
    const [head = ''] = connection.received.split('\r\n\r\n');
    assert.match(`${head}\r\n`, framing);
    assert.equal(`${head}\r\n`.match(/\r\n(?:content-length|transfer-encoding):/gi)?.length, 1);
    connection.send(OK);
    assert.equal((await heard.over()).outcome, 200);
    assert.equal((await ask(poolTo(t, await exactServer(t, () => OK))).over()).outcome, 200);
  });

test('a connection is used again after a stream that was sent to its end', async (t) => {
  const server = await exactServer(t);
  const pool = poolTo(t, server, { connections: 1 });
  const first = ask(pool, { method: 'POST', body: Readable.from([Buffer.from('ab')]) });
  const second = ask(pool);
  const connection = await server.connection();
  await connection.said(/\r\n0\r\n\r\n$/);
  connection.send(OK);
  assert.equal((await first.over()).outcome, 200);
  await connection.said(/GET [^]*\r\n\r\n$/);
  connection.send(NOTHING);
  assert.equal((await second.over()).outcome, 204);
  assert.equal(server.connections.length, 1);
});

for (const [what, length, pieces] of [
  ['shorter', '5', ['ab']],
  ['longer', '3', ['ab', 'cd']],
  ['longer from the beginning', '0', ['ab']],
] as const)
  test(`ARGUMENT where a stream is ${what} than its length; the connection is cut`, async (t) => {
    const server = await exactServer(t);
    const heard = ask(poolTo(t, server), {
      method: 'POST',
      headers: ['content-length', length],
      body: Readable.from(pieces.map((piece) => Buffer.from(piece))),
    });
    assert.equal((await heard.over()).outcome, 'ARGUMENT');
    const connection = await server.connection();
    await connection.closed();
    const body = connection.received.replace(/^[^]*?(?:\r\n\r\n|$)/, '');
    assert.ok(body.length <= Number(length), 'no byte is sent that the head did not tell of');
  });

test('a body that breaks ends the request with its error, and the connection', async (t) => {
  const server = await exactServer(t);
  const body = new PassThrough();
  body.write('ab');
  const heard = ask(poolTo(t, server), { method: 'POST', body });
  const connection = await server.connection();
  await connection.said(/ab/);
  body.destroy(new Error('broken'));
  assert.equal((await heard.over()).outcome, 'broken');
  await connection.closed();
  assert.doesNotMatch(connection.received, /\r\n0\r\n\r\n$/, 'it does not look whole');
});

test('a body that ends without its end is no whole one either', async (t) => {
  const server = await exactServer(t);
  const body = new PassThrough();
  body.write('ab');
  const heard = ask(poolTo(t, server), { method: 'POST', body });
  const connection = await server.connection();
  await connection.said(/ab/);
  body.destroy();
  await heard.over();
  assert.ok(heard.error);
  await connection.closed();
  assert.doesNotMatch(connection.received, /\r\n0\r\n\r\n$/);
});

test('a body that breaks while its request waits for a connection ends that request', async (t) => {
  const server = await exactServer(t, () => HELD);
  const pool = poolTo(t, server, { connections: 1 });
  const first = ask(pool);
  const body = new PassThrough();
  const heard = ask(pool, { method: 'POST', path: '/broken', body });
  await until('the first answer', () => first.calls.includes('data'));
  body.destroy(new Error('broken'));
  await until('the end of the body', () => body.closed);
  (await server.connection()).send(' 1234');
  await first.over();
  assert.equal((await heard.over()).outcome, 'broken');
});

test('the slower side sets the pace of a body', async (t) => {
  const server = await exactServer(t);
  const pool = poolTo(t, server);
  let given = 0;
  const body = new Readable({
    read() {
      given += 65_536;
      this.push(given > 64 * 1_048_576 ? null : Buffer.alloc(65_536));
    },
  });
  ask(pool, { method: 'POST', body });
  const { socket } = await server.connection();
  socket.pause();
  let before = -1;
  while (given > before) {
    before = given;
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
  assert.ok(given < 32 * 1_048_576, `${given} bytes were read of a body that nobody takes`);
  socket.resume();
  await until('the rest', () => given > 64 * 1_048_576);
});

test('HEADERS_TIMEOUT counts from when a body has been sent', async (t) => {
  const server = await exactServer(t);
  const pool = poolTo(t, server, { headersTimeoutMs: 60 });
  const body = new PassThrough();
  const heard = ask(pool, { method: 'POST', body });
  const control = ask(pool, { method: 'POST' });
  assert.equal((await control.over()).outcome, 'HEADERS_TIMEOUT');
  assert.ok(!heard.isOver, 'the body has not come yet');
  body.end('ab');
  assert.equal((await heard.over()).outcome, 'HEADERS_TIMEOUT');
});

// What must not be sent.

const PLAIN = { method: 'GET', path: '/', headers: ['x-a', 'b'] };
const UNSENDABLE: readonly [string, Partial<Http1Request>][] = [
  ['an empty method', { method: '' }],
  ['a space in the method', { method: 'GET /x' }],
  ['CRLF in the method', { method: 'GET / HTTP/1.1\r\nx: y\r\n' }],
  ['an empty path', { path: '' }],
  ['a space in the path', { path: '/ HTTP/1.1' }],
  ['CR in the path', { path: '/\rx' }],
  ['LF in the path', { path: '/\nx' }],
  ['NUL in the path', { path: '/\0' }],
  ['DEL in the path', { path: '/\x7f' }],
  ['what is not Latin-1 in the path', { path: '/\u010d\u010a' }],
  ['CRLF in a value', { headers: ['x-a', 'b\r\nx-evil: c'] }],
  ['LF in a value', { headers: ['x-a', 'b\nx-evil: c'] }],
  ['CR in a value', { headers: ['x-a', 'b\rc'] }],
  ['CRLF far in a long value', { headers: ['x-a', `${'b'.repeat(400)}\r\nx-evil: c`] }],
  [
    'a long value like one that can be sent, but for its end',
    { headers: ['x-a', 'b'.repeat(400), 'x-b', `${'b'.repeat(399)}\n`] },
  ],
  ['LF at the end of a value', { headers: ['x-a', 'b\n'] }],
  ['NUL in a value', { headers: ['x-a', 'b\0'] }],
  ['what is not Latin-1 in a value', { headers: ['x-a', '\u010d\u010a'] }],
  ['an empty name', { headers: ['', 'b'] }],
  ['a space in a name', { headers: ['x a', 'b'] }],
  ['a colon in a name', { headers: ['x:', 'b'] }],
  ['CRLF in a name', { headers: ['x\r\nx-evil', 'b'] }],
  ['LF at the end of a name', { headers: ['x\n', 'b'] }],
  ['a name that is not ASCII', { headers: ['\xe9', 'b'] }],
  ['a name without a value', { headers: ['x-a'] }],
  ...['Connection', 'transfer-encoding', 'KEEP-ALIVE', 'upgrade', 'Expect'].map(
    (name): [string, Partial<Http1Request>] => [
      `${name}, which is the client's`,
      { headers: [name, 'x'] },
    ],
  ),
  [
    'two lengths',
    { headers: ['content-length', '1', 'Content-Length', '1'], body: Buffer.from('a') },
  ],
  ['a length that is none', { headers: ['content-length', 'x'], body: Buffer.from('a') }],
  ['a length with a sign', { headers: ['content-length', '+1'], body: Buffer.from('a') }],
  ['a length that is too small', { headers: ['content-length', '1'], body: Buffer.from('ab') }],
  ['a length that is too large', { headers: ['content-length', '3'], body: Buffer.from('ab') }],
  ['a length without a body', { headers: ['content-length', '3'] }],
  ['two hosts', { headers: ['host', 'a', 'Host', 'b'] }],
  ['CRLF in the protocol to upgrade to', { upgrade: 'x\r\nx-evil: y' }],
  ['NUL in the protocol to upgrade to', { upgrade: 'x\0' }],
];
for (const [what, request] of UNSENDABLE)
  test(`ARGUMENT, and nothing is sent: ${what}`, async (t) => {
    const server = await exactServer(t, () => OK);
    const pool = poolTo(t, server);
    const heard = ask(pool, { ...PLAIN, ...request });
    assert.equal((await heard.over()).outcome, 'ARGUMENT');
    assert.deepEqual(heard.calls, ['error']);
    assert.equal((await ask(pool, PLAIN).over()).outcome, 200);
    assert.equal(server.connections.length, 1);
    const received = (await server.connection()).received;
    assert.match(
      received,
      /^GET \/ HTTP\/1\.1\r\n(?:[^\r\n]+\r\n)*x-a: b\r\n(?:[^\r\n]+\r\n)*\r\n$/,
    );
    assert.equal(pool.busy, 0);
  });
