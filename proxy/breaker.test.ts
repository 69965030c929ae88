import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, type Socket } from 'node:net';
import { type TestContext, test } from 'node:test';
import { Breakers } from './breaker.ts';
import { BOUNDARY, datasource, egressPolicy, ROLE, startMesh, startOrigin } from './testing.ts';

function rig() {
  const clock = { nowMs: 1_000 };
  const opened = { times: 0 };
  const breakers = new Breakers({
    now: () => clock.nowMs,
    onOpened: () => {
      opened.times += 1;
    },
  });
  const fail = (times: number, name = 'a:1') => {
    for (let at = 0; at < times; at++) breakers.enter(name).failed();
  };
  return { clock, opened, breakers, fail };
}
const shut = { code: 'UPSTREAM_UNREACHABLE' };

test('five failed connections in a row open it for 30 s, for that upstream alone; then one call tries', () => {
  const { clock, opened, breakers, fail } = rig();
  fail(4);
  breakers.enter('a:1').reached();
  fail(5);
  assert.throws(() => breakers.enter('a:1'), shut);
  breakers.enter('a:2').reached();
  assert.equal(opened.times, 1);
  clock.nowMs += 29_999;
  assert.throws(() => breakers.enter('a:1'), { ...shut, retryAfterMs: 1_000 });
  clock.nowMs += 1;
  const attempt = breakers.enter('a:1');
  assert.throws(() => breakers.enter('a:1'), shut, 'one at a time');
  attempt.failed();
  assert.throws(() => breakers.enter('a:1'), shut, 'another 30 s');
  assert.equal(opened.times, 1, 'it was open all the time');
  clock.nowMs += 30_000;
  breakers.enter('a:1').reached();
  breakers.enter('a:1').reached();
  assert.deepEqual(breakers.count(), { open: 0, 'half-open': 0, failing: 0 });
});

test('it says how many upstreams are in which state, and remembers those that are well not at all', () => {
  const { clock, breakers, fail } = rig();
  fail(5, 'open:1');
  fail(2, 'failing:1');
  breakers.enter('well:1').reached();
  assert.deepEqual(breakers.count(), { open: 1, 'half-open': 0, failing: 1 });
  clock.nowMs += 30_000;
  assert.deepEqual(breakers.count(), { open: 0, 'half-open': 1, failing: 1 });
});

test('of ever more names that fail only so many are remembered', () => {
  const { breakers, fail } = rig();
  for (let at = 0; at < 5_000; at++) fail(1, `h${at}:1`);
  assert.equal(breakers.count().failing, 4_096);
});

/** A server that closes each connection at once, and counts them. */
async function slammer(t: TestContext) {
  const seen: Socket[] = [];
  const server = createServer((socket) => {
    seen.push(socket);
    socket.destroy();
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(() => server.close());
  const address = server.address();
  return { seen, port: typeof address === 'object' && address ? address.port : 0 };
}

test('a datasource whose TLS never comes about is left alone; another goes on', async (t) => {
  const { seen, port } = await slammer(t);
  const origin = await startOrigin(t);
  const mesh = await startMesh(t, {
    documents: [
      ROLE,
      BOUNDARY,
      egressPolicy([
        { id: 'broken', datasource: 'http/broken' },
        { id: 'well', datasource: 'http/well' },
      ]),
      datasource('http', 'broken', `https://localhost:${port}`),
      datasource('http', 'well', `http://127.0.0.1:${origin.port}`),
    ],
  });
  const dialled = async () => {
    const before = seen.length;
    const got = await mesh.ask('/http/broken/x');
    assert.equal(got.status, 502);
    return { dialled: seen.length - before, got };
  };
  let last = await dialled();
  for (let tries = 0; tries < 10 && last.dialled > 0; tries++) last = await dialled();
  assert.equal(last.dialled, 0, 'it is not even dialled');
  assert.equal(last.got.error.reason, 'breaker_open');
  const retryAfter = Number(last.got.headers['retry-after']);
  assert.ok(retryAfter >= 1 && retryAfter <= 30, `${retryAfter}`);
  assert.equal((await mesh.ask('/http/well/x')).status, 200);
});

test('an upstream that answers 500, or slowly, opens nothing', async (t) => {
  const origin = await startOrigin(t, ({ url }, response) => {
    if (url === '/slow') return;
    response.writeHead(500).end('no');
  });
  const mesh = await startMesh(t, {
    documents: [
      ROLE,
      BOUNDARY,
      egressPolicy([{ id: 'ill', datasource: 'http/ill' }]),
      datasource('http', 'ill', `http://127.0.0.1:${origin.port}`),
    ],
    config: { upstreamTimeout: '2s' },
  });
  for (let at = 0; at < 8; at++) assert.equal((await mesh.ask('/http/ill/x')).status, 500);
  const slow = Array.from({ length: 8 }, () => mesh.ask('/http/ill/slow'));
  for (const { status } of await Promise.all(slow)) assert.equal(status, 504);
  assert.equal((await mesh.ask('/http/ill/x')).status, 500);
});
