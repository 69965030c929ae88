import assert from 'node:assert/strict';
import { connect, type Socket } from 'node:net';
import { PassThrough } from 'node:stream';
import { test } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import type { Http1Request } from './client.ts';
import { ask, exactServer, poolTo, until } from './test-rig.ts';

// Requests that end otherwise than with their answer.

const OK = 'HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi';
const HELD = 'HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf';

test('abort as the request is about to be written: nothing of it is', async (t) => {
  const server = await exactServer(t, () => OK);
  const pool = poolTo(t, server, { connections: 1 });
  const heard = ask(pool, { path: '/not' }, (call, controller) => {
    if (call === 'start') controller?.abort(new Error('not any more'));
  });
  assert.equal((await heard.over()).outcome, 'not any more');
  assert.deepEqual(heard.calls, ['start', 'error']);
  assert.equal((await ask(pool).over()).outcome, 200);
  assert.ok(server.connections.every(({ received }) => !received.includes('/not')));
});

for (const [phase, answer] of [
  ['head', HELD],
  ['data', HELD],
] as const)
  test(`abort at the ${phase}: its reason is told once, and the connection cut`, async (t) => {
    const server = await exactServer(t, (_head, connection) =>
      connection === server.connections[0] ? answer : OK,
    );
    const pool = poolTo(t, server, { connections: 1 });
    const heard = ask(pool, {}, (call, controller) => {
      if (call === phase) controller?.abort(new Error('enough'));
    });
    const next = ask(pool);
    assert.equal((await heard.over()).outcome, 'enough');
    await (await server.connection()).closed();
    assert.equal((await next.over()).outcome, 200);
    assert.equal(heard.calls.filter((call) => call === 'error').length, 1);
    assert.equal(heard.calls.at(-1), 'error');
    heard.controller?.abort(new Error('again'));
    heard.controller?.pause();
    heard.controller?.resume();
    assert.equal(heard.calls.at(-1), 'error');
    assert.equal(heard.outcome, 'enough');
  });

test('abort after the end does nothing to whoever has the connection now', async (t) => {
  const server = await exactServer(t, (head) => (head.includes('/second') ? undefined : OK));
  const pool = poolTo(t, server, { connections: 1 });
  const first = await ask(pool).over();
  const second = ask(pool, { path: '/second' });
  const connection = await server.connection();
  await connection.said(/second/);
  first.controller?.pause();
  first.controller?.abort(new Error('late'));
  assert.equal(first.error, undefined);
  connection.send(OK);
  assert.equal((await second.over()).body, 'hi');
});

for (const phase of ['start', 'head', 'data'] as const)
  test(`a handler that throws at the ${phase} ends its own request and no other`, async (t) => {
    const server = await exactServer(t, () => OK);
    const pool = poolTo(t, server, { connections: 1 });
    const heard = ask(pool, {}, (call) => {
      if (call === phase) throw new Error('thrown');
    });
    const next = ask(pool);
    assert.equal((await heard.over()).outcome, 'thrown');
    assert.equal((await next.over()).outcome, 200);
  });

test('a handler that throws at the end harms no other', async (t) => {
  const server = await exactServer(t, () => OK);
  const pool = poolTo(t, server, { connections: 1 });
  const heard = ask(pool, {}, (call) => {
    if (call === 'end') throw new Error('thrown');
  });
  const next = ask(pool);
  await heard.over();
  assert.equal((await next.over()).outcome, 200);
  assert.equal(pool.busy, 0);
});

const DEATHS: readonly [string, string | undefined, readonly string[], Partial<Http1Request>?][] = [
  ['before the head', undefined, ['start', 'error']],
  ['within the head', 'HTTP/1.1 200 O', ['start', 'error']],
  ['after an interim answer', 'HTTP/1.1 100 x\r\n\r\n', ['start', 'head', 'error']],
  ['within a body', HELD, ['start', 'head', 'data', 'error']],
  [
    'within a chunk',
    'HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n9\r\nhalf',
    ['start', 'head', 'data', 'error'],
  ],
  [
    'before the last chunk',
    'HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n',
    ['start', 'head', 'data', 'error'],
  ],
];
for (const how of ['end', 'resetAndDestroy'] as const)
  for (const [when, answer, calls] of DEATHS)
    test(`CLOSED where the server ${how === 'end' ? 'closes' : 'resets'} ${when}`, async (t) => {
      const server = await exactServer(t, () => answer);
      const heard = ask(poolTo(t, server));
      const connection = await server.connection();
      await connection.said();
      await until('what came before', () => heard.calls.length >= calls.length - 1);
      connection.socket[how]();
      assert.equal((await heard.over()).outcome, 'CLOSED');
      assert.deepEqual(heard.calls, calls);
    });

test('a body without a length ends with the connection, and is CLOSED where that is reset', async (t) => {
  const server = await exactServer(t, () => 'HTTP/1.1 200 OK\r\n\r\nall of it');
  const pool = poolTo(t, server);
  for (const [at, how, outcome] of [
    [0, 'end', 200],
    [1, 'resetAndDestroy', 'CLOSED'],
  ] as const) {
    const heard = ask(pool);
    const connection = await server.connection(at);
    await until('the body', () => heard.body === 'all of it');
    assert.ok(!heard.isOver);
    connection.socket[how]();
    assert.equal((await heard.over()).outcome, outcome);
  }
});

test('the server that dies while a body is sent: CLOSED, and the body is destroyed', async (t) => {
  const server = await exactServer(
    t,
    (_head, connection) => void connection.socket.resetAndDestroy(),
  );
  const body = new PassThrough();
  const heard = ask(poolTo(t, server), { method: 'POST', body });
  const filling = setInterval(() => body.destroyed || body.write('x'.repeat(1_000)), 5);
  t.after(() => clearInterval(filling));
  assert.equal((await heard.over()).outcome, 'CLOSED');
  await until('the body to be destroyed', () => body.destroyed);
});

test('where no connection can be made all who wait are told so, and later ones try again', async (t) => {
  const server = await exactServer(t, () => OK);
  let works = false;
  const pool = poolTo(t, server, {
    connections: 1,
    connect: (done) => {
      if (works) {
        const socket = connect(server.port, '127.0.0.1', () => done(null, socket));
      } else setImmediate(() => done(new Error('refused'), null));
    },
  });
  const heard = [ask(pool), ask(pool), ask(pool)];
  for (const one of heard) {
    assert.equal((await one.over()).outcome, 'refused');
    assert.deepEqual(one.calls, ['error']);
  }
  works = true;
  assert.equal((await ask(pool).over()).outcome, 200);
});

test('a connection that fails at once, within dispatch, is told to the handler too', async (t) => {
  const pool = poolTo(t, { port: 1 }, { connect: (done) => done(new Error('refused'), null) });
  const heard = [ask(pool), ask(pool)];
  for (const one of heard) assert.equal((await one.over()).outcome, 'refused');
  assert.equal(pool.busy, 0);
});

test('a connector that throws is told to the handler, and holds no place', async (t) => {
  let calls = 0;
  const pool = poolTo(
    t,
    { port: 1 },
    {
      connections: 1,
      connect: () => {
        calls += 1;
        throw new Error('thrown');
      },
    },
  );
  for (const one of [ask(pool), ask(pool)]) assert.equal((await one.over()).outcome, 'thrown');
  assert.equal(calls, 2);
});

for (const [when, outcome] of [
  ['before its request has been written is no answer to it', 'CLOSED'],
  ['behind its request is (control)', 200],
] as const)
  test(`what comes ${when}`, async (t) => {
    const server = await exactServer(t, (head) => (head.includes('/first') ? OK : undefined));
    let ours: Socket | undefined;
    const pool = poolTo(t, server, {
      connect: (done) => {
        const socket = connect(server.port, '127.0.0.1', () => done(null, socket));
        ours = socket;
      },
    });
    assert.equal((await ask(pool, { path: '/first' }).over()).outcome, 200);
    for (let turns = 0; turns < 4; turns++) await turn(); // then the connection has rested
    const heard = ask(pool, { path: '/second' });
    assert.deepEqual(heard.calls, ['start']);
    const connection = await server.connection();
    if (outcome === 200) await connection.said(/second/);
    ours?.emit('data', Buffer.from(OK)); // as if it had been there to read in this turn
    assert.equal((await heard.over()).outcome, outcome);
    assert.equal(connection.received.includes('/second'), outcome === 200);
  });
