import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ask, exactServer, poolTo, until } from './test-rig.ts';

// Connections that go on as something else.

const OK = 'HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi';

test('an upgrade: the connection is whose it was asked for, with what came behind the head', async (t) => {
  const server = await exactServer(t, () => 'HTTP/1.1 101 x\r\nUpgrade: websocket\r\n\r\nfirst');
  const pool = poolTo(t, server, { connections: 1 });
  const heard = await ask(pool, { upgrade: 'websocket' }).over();
  assert.deepEqual(heard.calls, ['start', 'upgrade']);
  assert.deepEqual(heard.heads, [{ status: 101, headers: ['Upgrade', 'websocket'] }]);
  const connection = await server.connection();
  assert.match(connection.received, /\r\nconnection: upgrade\r\n/i);
  assert.match(connection.received, /\r\nupgrade: websocket\r\n/i);
  const { socket } = heard;
  assert.ok(socket);
  let got = '';
  socket.on('data', (bytes: Buffer) => {
    got += bytes.toString();
  });
  socket.resume();
  await until('what came behind the head', () => got === 'first');
  connection.send(' second');
  await until('what came later', () => got === 'first second');
  socket.write('back');
  await connection.said(/back$/);
  assert.equal(pool.busy, 0);
  await pool.destroy();
  socket.write('still');
  await connection.said(/still$/);
  socket.destroy();
  await connection.closed();
});

test('a 101 that nobody asked for is MALFORMED', async (t) => {
  const server = await exactServer(t, () => 'HTTP/1.1 101 x\r\nUpgrade: websocket\r\n\r\nfirst');
  const heard = await ask(poolTo(t, server)).over();
  assert.equal(heard.outcome, 'MALFORMED');
  assert.deepEqual(heard.calls, ['start', 'error']);
});

test('an upgrade leaves its place to those who wait', async (t) => {
  const server = await exactServer(t, (head) =>
    head.includes('upgrade') ? 'HTTP/1.1 101 x\r\n\r\n' : OK,
  );
  const pool = poolTo(t, server, { connections: 1 });
  const [first, second] = [ask(pool, { upgrade: 'x' }), ask(pool)];
  assert.equal((await first.over()).outcome, 101);
  assert.equal((await second.over()).outcome, 200);
  first.socket?.destroy();
});

test('a refused upgrade is an answer like any other', async (t) => {
  const server = await exactServer(t, () => 'HTTP/1.1 426 x\r\ncontent-length: 2\r\n\r\nno');
  const heard = await ask(poolTo(t, server), { upgrade: 'websocket' }).over();
  assert.equal(heard.outcome, 426);
  assert.equal(heard.body, 'no');
});

for (const status of [200, 407])
  test(`CONNECT that is answered ${status}: the connection is the handler's`, async (t) => {
    const server = await exactServer(
      t,
      () => `HTTP/1.1 ${status} x\r\ncontent-length: 5\r\n\r\nfirst`,
    );
    const pool = poolTo(t, server);
    const heard = await ask(pool, { method: 'CONNECT', path: 'a.test:443' }).over();
    assert.deepEqual(heard.calls, ['start', 'upgrade']);
    assert.equal(heard.outcome, status);
    const connection = await server.connection();
    assert.match(connection.received, /^CONNECT a\.test:443 HTTP\/1\.1\r\n/);
    heard.socket?.destroy();
  });

test('an upgraded connection that breaks before somebody listens ends no process', async (t) => {
  const server = await exactServer(t, () => 'HTTP/1.1 101 x\r\n\r\n');
  const heard = await ask(poolTo(t, server), { upgrade: 'x' }).over();
  const connection = await server.connection();
  connection.socket.resetAndDestroy();
  const { socket } = heard;
  socket?.resume();
  await until('the end', () => socket?.destroyed === true);
});

test('an upgrade that its handler does not take ends the connection', async (t) => {
  const server = await exactServer(t, () => 'HTTP/1.1 101 x\r\n\r\n');
  const pool = poolTo(t, server);
  const errors: Error[] = [];
  const request = { method: 'GET', path: '/', headers: [], upgrade: 'x' };
  pool.dispatch(request, { onResponseError: (error) => errors.push(error) });
  await (await server.connection(0)).closed();
  const thrower = ask(pool, { upgrade: 'x' }, (call) => {
    if (call === 'upgrade') throw new Error('thrown');
  });
  await (await server.connection(1)).closed();
  await until('the error', () => thrower.error !== undefined);
  assert.equal(thrower.error?.message, 'thrown');
});
