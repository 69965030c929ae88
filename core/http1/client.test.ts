import assert from 'node:assert/strict';
import { PassThrough } from 'node:stream';
import { test } from 'node:test';
import type { Http1Request } from './client.ts';
import { ask, type ExactConnection, exactServer, poolTo, until } from './test-rig.ts';

const OK = 'HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi';
const NOTHING = 'HTTP/1.1 204 x\r\n\r\n';
const HELD = 'HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf';

test('a request is written as it was said, and its answer told as it came', async (t) => {
  const server = await exactServer(
    t,
    () => 'HTTP/1.1 201 Made\r\nX-A: \xe9 \r\nx-a:2\r\nContent-Length: 3\r\n\r\na\0b',
  );
  const pool = poolTo(t, server);
  const heard = await ask(pool, {
    method: 'DELETE',
    path: '/a?b#\xe9',
    headers: ['Host', 'other.test', 'X-B', 'one', 'x-b', '\xe9\t2'],
  }).over();
  assert.deepEqual(heard.heads, [
    { status: 201, headers: ['X-A', '\xe9', 'x-a', '2', 'Content-Length', '3'] },
  ]);
  assert.equal(heard.body, 'a\0b');
  assert.deepEqual(heard.trailers, []);
  assert.deepEqual([heard.calls[0], heard.calls[1], heard.calls.at(-1)], ['start', 'head', 'end']);
  const { received } = await server.connection();
  assert.match(received, /^DELETE \/a\?b#\xe9 HTTP\/1\.1\r\n/);
  assert.match(received, /\r\nHost: other\.test\r\n/);
  assert.match(received, /\r\nX-B: one\r\nx-b: \xe9\t2\r\n/);
  assert.equal(received.match(/host:/gi)?.length, 1);
});

// Which connections are used again.

/** The first answer on a connection, and what asked for it; control: OK is reused. */
const REUSE: readonly [string, string, number | string, boolean, Partial<Http1Request>?][] = [
  ['an answer with a length', OK, 200, true],
  [
    'an answer in chunks',
    'HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n',
    200,
    true,
  ],
  ['204', NOTHING, 204, true],
  ['304 with a length', 'HTTP/1.1 304 x\r\ncontent-length: 7\r\n\r\n', 304, true],
  ['HEAD', 'HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\n', 200, true, { method: 'HEAD' }],
  ['a buffer as body', OK, 200, true, { method: 'POST', body: Buffer.from('abc') }],
  ['a large buffer as body', OK, 200, false, { method: 'POST', body: Buffer.alloc(8_000_000) }],
  ['a refused upgrade', OK, 200, true, { upgrade: 'websocket' }],
  ['Connection: close', `HTTP/1.1 200 OK\r\nConnection: close\r\n${OK.slice(17)}`, 200, false],
  ['HTTP/1.0', OK.replace('1.1', '1.0'), 200, false],
  [
    'HTTP/1.0 with keep-alive',
    `HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n${OK.slice(17)}`,
    200,
    false,
  ],
  ['bytes behind an answer', `${OK}x`, 200, false],
  ['an answer behind an answer', `${OK}${OK}`, 200, false],
  ['a body to HEAD', OK, 200, false, { method: 'HEAD' }],
  [
    'Keep-Alive: timeout=0',
    `HTTP/1.1 200 OK\r\nKeep-Alive: timeout=0\r\n${OK.slice(17)}`,
    200,
    false,
  ],
  [
    'Keep-Alive: timeout=1',
    `HTTP/1.1 200 OK\r\nKeep-Alive: timeout=1\r\n${OK.slice(17)}`,
    200,
    false,
  ],
  [
    'Keep-Alive: timeout=90',
    `HTTP/1.1 200 OK\r\nKeep-Alive: timeout=90\r\n${OK.slice(17)}`,
    200,
    true,
  ],
  ['an answer that is none', 'HTTP/1.1 200 OK\nx: y\r\n\r\n', 'MALFORMED', false],
];
for (const [what, answer, outcome, reuses, request] of REUSE)
  test(`${reuses ? 'used again' : 'never used again'} after ${what}`, async (t) => {
    const server = await exactServer(t, (_head, connection) =>
      connection === server.connections[0] &&
      connection.received.match(/HTTP\/1\.1\r\n/g)?.length === 1
        ? answer
        : NOTHING,
    );
    const pool = poolTo(t, server, { connections: 1 });
    const first = await ask(pool, request).over();
    assert.equal(first.outcome, outcome);
    const second = await ask(pool).over();
    assert.equal(second.outcome, 204);
    assert.equal(server.connections.length, reuses ? 1 : 2);
    if (!reuses) await (await server.connection()).closed();
  });

test('who waits behind an answer with bytes behind it gets a connection of its own, not those bytes', async (t) => {
  const server = await exactServer(t, (_head, connection) =>
    connection === server.connections[0]
      ? `${OK}HTTP/1.1 500 No\r\ncontent-length: 4\r\n\r\nevil`
      : NOTHING,
  );
  const pool = poolTo(t, server, { connections: 1 });
  const [first, second] = [ask(pool), ask(pool)];
  assert.equal((await first.over()).body, 'hi');
  assert.equal((await second.over()).outcome, 204);
  assert.equal(server.connections.length, 2);
});

test('bytes that come while nobody asks end the connection', async (t) => {
  const server = await exactServer(t, () => OK);
  const pool = poolTo(t, server);
  await ask(pool).over();
  const connection = await server.connection();
  connection.send(OK);
  await connection.closed();
  assert.equal((await ask(pool).over()).outcome, 200);
  assert.equal(server.connections.length, 2);
});

test('an idle connection that the other side closes is not used again', async (t) => {
  const server = await exactServer(t, () => OK);
  const pool = poolTo(t, server);
  await ask(pool).over();
  const connection = await server.connection();
  connection.socket.end();
  await connection.closed();
  assert.equal((await ask(pool).over()).outcome, 200);
  assert.equal(server.connections.length, 2);
});

test('an early answer ends the connection and the body that was still being sent', async (t) => {
  const server = await exactServer(t, () => OK);
  const pool = poolTo(t, server);
  const body = new PassThrough();
  body.write('some');
  const heard = ask(pool, { method: 'POST', body });
  assert.equal((await heard.over()).body, 'hi');
  await (await server.connection()).closed();
  await until('the body to be destroyed', () => body.destroyed);
  assert.equal((await ask(pool).over()).outcome, 200);
  assert.equal(server.connections.length, 2);
});

test('the connection that was used last is used first', async (t) => {
  const server = await exactServer(t);
  const pool = poolTo(t, server);
  const heard = [ask(pool), ask(pool), ask(pool)];
  const by: ExactConnection[] = [];
  for (const at of [0, 1, 2]) {
    const connection = await server.connection(at);
    await connection.said();
    by.push(connection);
  }
  for (const at of [2, 0, 1]) {
    const before = heard.filter(({ isOver }) => isOver).length;
    by[at]?.send(OK);
    await until('an answer', () => heard.filter(({ isOver }) => isOver).length > before);
  }
  const again = ask(pool);
  await by[1]?.said(/\r\n\r\n[^]*\r\n\r\n/);
  by[1]?.send(NOTHING);
  assert.equal((await again.over()).outcome, 204);
});

test('no more connections than are allowed; the rest wait their turn, in order', async (t) => {
  const order: string[] = [];
  const server = await exactServer(t, (head) => {
    order.push(head.split(' ')[1] ?? '');
    return OK;
  });
  const pool = poolTo(t, server, { connections: 2 });
  const heard = Array.from({ length: 20 }, (_, at) => ask(pool, { path: `/${at}` }));
  assert.equal(pool.busy, 20);
  for (const one of heard) assert.equal((await one.over()).body, 'hi');
  assert.equal(server.connections.length, 2);
  assert.deepEqual(
    [...order].toSorted((a, b) => Number(a.slice(1)) - Number(b.slice(1))),
    heard.map((_, at) => `/${at}`),
  );
  assert.equal(pool.busy, 0);
});

test('one connection serves all who wait in the order in which they came', async (t) => {
  const order: string[] = [];
  const server = await exactServer(t, (head) => {
    order.push(head.split(' ')[1] ?? '');
    return OK;
  });
  const pool = poolTo(t, server, { connections: 1 });
  const heard = Array.from({ length: 8 }, (_, at) => ask(pool, { path: `/${at}` }));
  for (const one of heard) await one.over();
  assert.deepEqual(order, ['/0', '/1', '/2', '/3', '/4', '/5', '/6', '/7']);
  assert.equal(server.connections.length, 1);
});

// Interim answers.

test('interim answers are told before the one that counts', async (t) => {
  const server = await exactServer(
    t,
    () => `HTTP/1.1 100 x\r\n\r\nHTTP/1.1 103 x\r\nlink: y\r\n\r\n${OK}`,
  );
  const pool = poolTo(t, server);
  const heard = await ask(pool).over();
  assert.deepEqual(
    heard.heads.map(({ status }) => status),
    [100, 103, 200],
  );
  assert.deepEqual(heard.heads[1]?.headers, ['link', 'y']);
  assert.equal(heard.body, 'hi');
  await ask(pool).over();
  assert.equal(server.connections.length, 1);
});

test('trailers are told at the end', async (t) => {
  const server = await exactServer(
    t,
    () => 'HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\nX-A: b\r\n\r\n',
  );
  assert.deepEqual((await ask(poolTo(t, server)).over()).trailers, ['X-A', 'b']);
});

test('MALFORMED where a head is longer than is allowed; one that is shorter is read', async (t) => {
  const server = await exactServer(t, () => `HTTP/1.1 204 x\r\nx: ${'y'.repeat(2_000)}\r\n\r\n`);
  assert.equal((await ask(poolTo(t, server, { headMaxBytes: 1_000 })).over()).outcome, 'MALFORMED');
  assert.equal((await ask(poolTo(t, server)).over()).outcome, 204);
});

// The end of the pool.

test('destroy ends what waits and what is under way, with ABORTED', async (t) => {
  const server = await exactServer(t, () => HELD);
  const pool = poolTo(t, server, { connections: 1 });
  const body = new PassThrough();
  const [first, second] = [ask(pool), ask(pool, { method: 'POST', body })];
  await until('half an answer', () => first.calls.includes('data'));
  await pool.destroy();
  assert.deepEqual([first.outcome, second.outcome], ['ABORTED', 'ABORTED']);
  assert.deepEqual(second.calls, ['error']);
  await until('the body to be destroyed', () => body.destroyed);
  await (await server.connection()).closed();
  assert.equal((await ask(pool).over()).outcome, 'ABORTED');
  assert.equal(server.connections.length, 1);
  await pool.destroy();
});

test('destroy while a connection is being made: it is closed when it is there', async (t) => {
  const server = await exactServer(t, () => OK);
  const pool = poolTo(t, server);
  const heard = ask(pool);
  const destroyed = pool.destroy();
  assert.equal((await heard.over()).outcome, 'ABORTED');
  await destroyed;
  await until('the connection, if any, to be closed', () =>
    server.connections.every(({ isClosed }) => isClosed),
  );
});

test('close lets what waits and what is under way end, and takes nothing new', async (t) => {
  const server = await exactServer(t, (head) => (head.includes('/first') ? HELD : OK));
  const pool = poolTo(t, server, { connections: 1 });
  const first = ask(pool, { path: '/first' });
  const second = ask(pool);
  await until('half an answer', () => first.calls.includes('data'));
  let isClosed = false;
  const closing = pool.close().then(() => {
    isClosed = true;
  });
  assert.equal((await ask(pool).over()).outcome, 'ABORTED');
  assert.ok(!isClosed);
  (await server.connection()).send(' 1234');
  assert.equal((await first.over()).body, 'half 1234');
  assert.equal((await second.over()).body, 'hi');
  await closing;
  await (await server.connection()).closed();
});

test('close of a pool with nothing under way ends its idle connections', async (t) => {
  const server = await exactServer(t, () => OK);
  const pool = poolTo(t, server);
  await ask(pool).over();
  await pool.close();
  await (await server.connection()).closed();
});

test('a handler may ask for nothing at all', async (t) => {
  const server = await exactServer(t, () => OK);
  const pool = poolTo(t, server);
  pool.dispatch({ method: 'GET', path: '/', headers: [] }, {});
  pool.dispatch({ method: '', path: '/', headers: [] }, {});
  await (await server.connection()).said();
  await until('the end', () => pool.busy === 0);
  assert.equal((await ask(pool).over()).outcome, 200);
});

test('requests that are made one at the end of the other need no connection each', async (t) => {
  const server = await exactServer(t, () => OK);
  const pool = poolTo(t, server);
  let left = 20;
  const next = (call: string): void => {
    if (call === 'end' && left-- > 0) ask(pool, { path: `/${left}` }, next);
  };
  ask(pool, {}, next);
  await until('the last', () => left < 0 && pool.busy === 0);
  assert.equal(server.connections.length, 1);
});
