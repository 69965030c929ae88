import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Http1PoolOptions } from './client.ts';
import { ask, exactServer, Heard, poolTo, until } from './test-rig.ts';

// How long things may take, and who sets the pace.

const OK = 'HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi';
const HELD = 'HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf';

test('an idle connection is closed after its time; another is kept', async (t) => {
  const server = await exactServer(t, () => OK);
  await ask(poolTo(t, server, { idleMs: 40 })).over();
  const kept = poolTo(t, server);
  await ask(kept).over();
  await (await server.connection(0)).closed();
  assert.ok(!(await server.connection(1)).isClosed);
});

test('the other side can shorten that time', async (t) => {
  const server = await exactServer(t, (_head, connection) =>
    connection === server.connections[0]
      ? `HTTP/1.1 200 OK\r\nKeep-Alive: max=3, timeout=2\r\n${OK.slice(17)}`
      : OK,
  );
  await ask(poolTo(t, server)).over();
  await ask(poolTo(t, server)).over();
  await (await server.connection(0)).closed(); // a second before the other side does
  assert.ok(!(await server.connection(1)).isClosed);
});

const SILENCES: readonly [
  string,
  string | undefined,
  Partial<Http1PoolOptions>,
  string,
  readonly string[],
][] = [
  ['the head', undefined, { headersTimeoutMs: 40 }, 'HEADERS_TIMEOUT', ['start', 'error']],
  [
    'half a head',
    'HTTP/1.1 200 OK\r\n',
    { headersTimeoutMs: 40 },
    'HEADERS_TIMEOUT',
    ['start', 'error'],
  ],
  [
    'the head after an interim one',
    'HTTP/1.1 103 x\r\n\r\n',
    { headersTimeoutMs: 40 },
    'HEADERS_TIMEOUT',
    ['start', 'head', 'error'],
  ],
  [
    'the body',
    'HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n',
    { bodyTimeoutMs: 40 },
    'BODY_TIMEOUT',
    ['start', 'head', 'error'],
  ],
  [
    'the rest of the body',
    HELD,
    { bodyTimeoutMs: 40 },
    'BODY_TIMEOUT',
    ['start', 'head', 'data', 'error'],
  ],
  [
    'the last chunk',
    'HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n',
    { bodyTimeoutMs: 40 },
    'BODY_TIMEOUT',
    ['start', 'head', 'data', 'error'],
  ],
];
for (const [what, answer, options, code, calls] of SILENCES)
  test(`${code} where ${what} does not come`, async (t) => {
    const server = await exactServer(t, () => answer);
    const pool = poolTo(t, server, options);
    const heard = await ask(pool).over();
    assert.equal(heard.outcome, code);
    assert.deepEqual(heard.calls, calls);
    await (await server.connection()).closed();
  });

test('BUSY where no connection was free for as long as a head may take; nothing was sent, and the next is served', async (t) => {
  const server = await exactServer(t, (head) => (head.includes('/stream') ? HELD : OK));
  const pool = poolTo(t, server, { connections: 1, headersTimeoutMs: 40 });
  const stream = ask(pool, { path: '/stream' });
  await until('half an answer', () => stream.calls.includes('data'));
  const late = await ask(pool, { path: '/late' }).over();
  assert.deepEqual([late.outcome, late.calls], ['BUSY', ['error']]);
  const connection = await server.connection();
  connection.send(' 1234');
  assert.equal((await stream.over()).body, 'half 1234');
  assert.equal((await ask(pool).over()).outcome, 200);
  assert.doesNotMatch(connection.received, /late/);
});

test('a time-out of 0 is for ever', async (t) => {
  const server = await exactServer(t, (head) => (head.includes('/head') ? undefined : HELD));
  const pool = poolTo(t, server, { headersTimeoutMs: 1_000, bodyTimeoutMs: 1_000 });
  const patient = [
    ask(poolTo(t, server, { headersTimeoutMs: 0, bodyTimeoutMs: 1_000 }), { path: '/head' }),
    ask(poolTo(t, server, { headersTimeoutMs: 1_000, bodyTimeoutMs: 0 }), { path: '/body' }),
  ];
  assert.equal((await ask(pool, { path: '/head' }).over()).outcome, 'HEADERS_TIMEOUT');
  assert.equal((await ask(pool, { path: '/body' }).over()).outcome, 'BODY_TIMEOUT');
  assert.ok(patient.every(({ isOver }) => !isOver));
});

test('a body that comes slowly is not silent', async (t) => {
  const server = await exactServer(t, () => 'HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\n');
  const heard = ask(poolTo(t, server, { bodyTimeoutMs: 3_000 }));
  const connection = await server.connection();
  await connection.said();
  const began = performance.now();
  for (const letter of 'abcdef') {
    await new Promise((resolve) => setTimeout(resolve, 600));
    connection.send(letter);
  }
  assert.equal((await heard.over()).body, 'abcdef');
  assert.ok(performance.now() - began > 3_000, 'all of it took longer than a silence may');
});

test('whoever pauses is not late: no time-out meanwhile, and the rest afterwards', async (t) => {
  const server = await exactServer(t, () => HELD);
  const options = { bodyTimeoutMs: 40 };
  const paused = ask(poolTo(t, server, options), {}, (call, controller) => {
    if (call === 'data') controller?.pause();
  });
  await until('the pause', () => paused.calls.includes('data'));
  const control = ask(poolTo(t, server, options));
  assert.equal((await control.over()).outcome, 'BODY_TIMEOUT');
  assert.deepEqual(paused.calls, ['start', 'head', 'data']);
  const connection = await server.connection();
  connection.send(' 1234');
  paused.controller?.resume();
  assert.equal((await paused.over()).body, 'half 1234');
});

test('a pause stops what comes, and holds back the other side', async (t) => {
  const piece = Buffer.alloc(1_048_576, 'x');
  const pieces = 64;
  const server = await exactServer(
    t,
    () => `HTTP/1.1 200 OK\r\ncontent-length: ${piece.length * pieces}\r\n\r\n`,
  );
  const pool = poolTo(t, server);
  let bytes = 0;
  const heard = new Heard((call, controller) => {
    if (call === 'head') controller?.pause();
  });
  heard.onResponseData = (_controller, chunk) => {
    bytes += chunk.length;
  };
  pool.dispatch({ method: 'GET', path: '/', headers: [] }, heard);
  await until('the head', () => heard.calls.includes('head'));
  const { socket } = await server.connection();
  for (let at = 0; at < pieces; at += 1) socket.write(piece);
  // All that the kernel takes is taken when nothing more has gone out for a while.
  let left = Infinity;
  while (socket.writableLength < left) {
    left = socket.writableLength;
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
  assert.ok(bytes <= 131_072, `${bytes} bytes were told in a pause`);
  assert.ok(left > piece.length * pieces * 0.5, `${left} bytes are still with the other side`);
  heard.controller?.resume();
  await heard.over();
  assert.equal(bytes, piece.length * pieces);
});
