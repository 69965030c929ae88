import assert from 'node:assert/strict';
import { connect } from 'node:net';
import { type TestContext, test } from 'node:test';
import type { Http1Connector, Http1Pool, Http1Request } from './client.ts';
import { Http1Error } from './client.ts';
import { type ExactServer, exactServer, poolTo, until } from './test-rig.ts';
import { askWhole, type WholeBounds } from './whole.ts';

const BOUNDS: WholeBounds = { timeoutMs: 60_000, maxBytes: 10 };
const GET: Http1Request = { method: 'GET', path: '/', headers: [] };
const OK = 'HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi';
const LATE = { message: 'there is no answer after 40 ms' };

/** That the next request is answered, and over how many connections all of them went. */
async function connectionsAfter(pool: Http1Pool, server: ExactServer): Promise<number> {
  const { status } = await askWhole(pool, GET, BOUNDS);
  assert.equal(status, 200);
  return server.connections.length;
}

/** Answers the first request with `first`, and all others with `OK`. */
function answering(t: TestContext, first: string | undefined): Promise<ExactServer> {
  let asked = 0;
  return exactServer(t, () => (asked++ === 0 ? first : OK));
}

test('status, headers and body of an answer, whatever came before it and in whatever pieces', async (t) => {
  const server = await exactServer(
    t,
    () =>
      'HTTP/1.1 103 Early\r\nlink: a\r\n\r\n' +
      'HTTP/1.1 404 No\r\nX-A: 1\r\nx-a: 2\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\n\xe9\n\r\n0\r\n\r\n',
  );
  const { status, headers, body } = await askWhole(poolTo(t, server), GET, BOUNDS);
  assert.equal(status, 404);
  assert.deepEqual(headers, ['X-A', '1', 'x-a', '2', 'transfer-encoding', 'chunked']);
  assert.equal(body.toString('latin1'), 'abc\xe9\n');
});

test('an answer without a body has an empty one', async (t) => {
  const server = await exactServer(t, () => 'HTTP/1.1 204 No\r\n\r\n');
  const { status, body } = await askWhole(poolTo(t, server), GET, BOUNDS);
  assert.deepEqual([status, body.length], [204, 0]);
});

/** The last piece of each is one byte too many; without it all of it comes. */
const BODIES: readonly [what: string, head: string, fits: string, more: string][] = [
  ['a length', 'content-length: LENGTH\r\n\r\n', '0123456789', '0'],
  ['chunks', 'transfer-encoding: chunked\r\n\r\n', 'a\r\n0123456789\r\n', '1\r\n0\r\n'],
  ['no length', '\r\n', '0123456789', '0'],
];

for (const [what, head, fits, more] of BODIES)
  test(`a body of ${what} comes up to the bound; with a byte more the connection is cut`, async (t) => {
    const answer = (body: string): string => {
      const end = what === 'chunks' ? '0\r\n\r\n' : '';
      return `HTTP/1.1 200 OK\r\n${head.replace('LENGTH', String(body.length))}${body}${end}`;
    };
    const server = await exactServer(t, (asked, { socket }) => {
      const text = answer(asked.startsWith('GET /more') ? fits + more : fits);
      if (what !== 'no length') return text;
      socket.end(text, 'latin1');
      return undefined;
    });
    const pool = poolTo(t, server);
    const { body } = await askWhole(pool, GET, BOUNDS);
    assert.equal(body.toString(), '0123456789');
    await assert.rejects(askWhole(pool, { ...GET, path: '/more' }, BOUNDS), {
      message: 'the answer is longer than 10 bytes',
    });
    await server.connections.at(-1)?.closed();
  });

const SILENT: readonly [what: string, begin: string | undefined][] = [
  ['without a byte', undefined],
  ['within the head', 'HTTP/1.1 200 OK\r\n'],
  ['within the body', 'HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nhi'],
];

for (const [what, begin] of SILENT)
  test(`the time of a request ends it ${what}, and its connection`, async (t) => {
    // By its path: on a loaded machine its time may be over before it is sent.
    const server = await exactServer(t, (head) => (head.startsWith('GET /late') ? begin : OK));
    const pool = poolTo(t, server, { connections: 1 });
    const late = { ...GET, path: '/late' };
    await assert.rejects(askWhole(pool, late, { ...BOUNDS, timeoutMs: 40 }), LATE);
    // That there may be one more says that the first is not counted any more.
    assert.equal(await connectionsAfter(pool, server), 2);
    await (await server.connection(0)).closed();
  });

test('an answer that was there in time counts, also where this process was held up beyond it', async (t) => {
  const server = await exactServer(t, (head, { socket }) => {
    if (!head.startsWith('GET /held')) return OK;
    socket.write(OK);
    for (const over = performance.now() + 2_000; performance.now() < over; );
    return undefined;
  });
  const pool = poolTo(t, server);
  await askWhole(pool, GET, BOUNDS); // makes the connection
  const held = await askWhole(pool, { ...GET, path: '/held' }, { ...BOUNDS, timeoutMs: 2_000 });
  assert.equal(held.status, 200);
});

test('an answer in time leaves its connection for the next request', async (t) => {
  const server = await answering(t, OK);
  const pool = poolTo(t, server);
  await askWhole(pool, GET, { ...BOUNDS, timeoutMs: 20_000 });
  assert.equal(await connectionsAfter(pool, server), 1);
});

test('the time goes on while a request waits for a connection, and then nothing of it is sent', async (t) => {
  const server = await answering(t, undefined);
  const held: (() => void)[] = [];
  const slow: Http1Connector = (done) => {
    const socket = connect({ port: server.port, host: '127.0.0.1' });
    socket.once('connect', () => held.push(() => done(null, socket)));
  };
  const pool = poolTo(t, server, { connect: slow });
  await assert.rejects(askWhole(pool, GET, { ...BOUNDS, timeoutMs: 40 }), LATE);
  await until('a connection', () => held.length > 0);
  held[0]?.();
  const first = await server.connection(0);
  await until('it to be forgotten', () => pool.busy === 0);
  assert.equal(first.received, '');
  assert.ok(!first.isClosed, 'nobody asked anything on it');
});

test('one that waits behind another is late, too, and the other is not ended by it', async (t) => {
  const server = await answering(t, undefined);
  const pool = poolTo(t, server, { connections: 1 });
  const first = askWhole(pool, GET, BOUNDS);
  await (await server.connection(0)).said();
  await assert.rejects(
    askWhole(pool, { ...GET, path: '/second' }, { ...BOUNDS, timeoutMs: 40 }),
    LATE,
  );
  const connection = await server.connection(0);
  assert.ok(!connection.isClosed);
  connection.send(OK);
  assert.equal((await first).body.toString(), 'hi');
  await until('the one that was late to be forgotten', () => pool.busy === 0);
  assert.ok(!server.connections.some(({ received }) => received.includes('/second')));
});

/** What goes wrong is told as it is. */
const ERRORS: readonly [what: string, answer: string, request: Http1Request, code: string][] = [
  ['no HTTP', 'SSH-2.0-x\r\n', GET, 'MALFORMED'],
  ['a header that cannot be sent', OK, { ...GET, headers: ['a', 'b\r\nc: d'] }, 'ARGUMENT'],
  [
    'a switch of protocols',
    'HTTP/1.1 200 OK\r\n\r\n',
    { ...GET, method: 'CONNECT', path: 'a:1' },
    'MALFORMED',
  ],
];

for (const [what, answer, request, code] of ERRORS)
  test(`${what} is ${code}`, async (t) => {
    const server = await answering(t, answer);
    const pool = poolTo(t, server);
    await assert.rejects(
      askWhole(pool, request, BOUNDS),
      (error) => error instanceof Http1Error && error.code === code,
    );
    await connectionsAfter(pool, server);
  });

test('what connecting fails with is told as it is', async (t) => {
  const server = await answering(t, OK);
  const failure = new Error('not today');
  const pool = poolTo(t, server, { connect: (done) => done(failure, null) });
  await assert.rejects(askWhole(pool, GET, BOUNDS), (error) => error === failure);
});

test('a server that leaves is CLOSED, and a pool that is destroyed ABORTED', async (t) => {
  const server = await exactServer(t, (_head, { socket }) => {
    if (server.connections.length === 1) socket.destroy();
    return undefined;
  });
  const pool = poolTo(t, server);
  await assert.rejects(askWhole(pool, GET, BOUNDS), { code: 'CLOSED' });
  const second = askWhole(pool, GET, BOUNDS);
  const [, refused] = [
    await (await server.connection(1)).said(),
    assert.rejects(second, { code: 'ABORTED' }),
  ];
  await pool.destroy();
  await refused;
});
