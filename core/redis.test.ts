import assert from 'node:assert/strict';
import { createServer, type Socket } from 'node:net';
import { type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { listen } from './http.ts';
import { parseRedisUrl, Redis } from './redis.ts';

// The same connection with real servers: test/parts/limits.test.ts and test/parts/recovery-redis.test.ts.

/** Something that takes connections at the address and is no Redis. */
async function startImpostor(t: TestContext, answer: (socket: Socket) => void, answerMs?: number) {
  let connections = 0;
  const server = createServer((socket) => {
    connections += 1;
    socket.on('error', () => {});
    t.after(() => socket.destroy());
    answer(socket);
  });
  const address = await listen(server, { kind: 'tcp', host: '127.0.0.1', port: 0 });
  t.after(() => server.close());
  assert.ok(address.kind === 'tcp');
  const told: boolean[] = [];
  const redis = new Redis({
    address: parseRedisUrl(`redis://127.0.0.1:${address.port}`),
    password: () => undefined,
    greet: [['PING']],
    onAvailable: (available, why) => {
      told.push(available);
      assert.equal(why === undefined, available);
    },
    ...(answerMs === undefined ? {} : { answerMs }),
  });
  t.after(() => redis.close());
  return { redis, told, connections: () => connections };
}

for (const [what, answer] of [
  ['says nothing', () => {}],
  ['speaks another protocol', (socket: Socket) => socket.end('HTTP/1.1 400 Bad Request\r\n\r\n')],
  ['hangs up', (socket: Socket) => socket.destroy()],
  ['refuses', (socket: Socket) => socket.on('data', () => socket.write('-NOAUTH first\r\n'))],
] as const)
  test(`one that ${what} is away: that is known soon, what is asked waits for nothing, and it is tried again`, async (t) => {
    const { redis, told, connections } = await startImpostor(t, answer);
    const from = performance.now();
    await redis.tried;
    assert.ok(performance.now() - from < 30_000, 'a session waits for this');
    assert.equal(redis.available, false);
    await assert.rejects(redis.send([['GET', 'a']]), /away/);
    const deadline = performance.now() + 60_000;
    while (connections() < 3) {
      assert.ok(performance.now() < deadline, `${connections()} connections`);
      await sleep(10);
    }
    assert.deepEqual(told, [false], 'said once, with the reason, also of one that never was there');
  });

test('one that answers is used, until it says nothing more: control', async (t) => {
  let silent = false;
  const talks = (socket: Socket) => socket.on('data', () => silent || socket.write('+PONG\r\n'));
  const { redis, told } = await startImpostor(t, talks, 2_000);
  await redis.tried;
  assert.equal(redis.available, true);
  assert.deepEqual(await redis.send([['PING']]), ['PONG']);
  silent = true;
  const asked = [redis.send([['GET', 'a']]), redis.send([['GET', 'b']])];
  for (const one of asked) await assert.rejects(one, { code: 'UPSTREAM_LOST' });
  assert.equal(redis.available, false);
  assert.deepEqual(told, [true, false]);
});

for (const [url, wanted] of [
  ['redis://cache', { host: 'cache', port: 6_379, tls: false, database: 0, username: undefined }],
  [
    'rediss://me@[::1]:7000/3',
    { host: '::1', port: 7_000, tls: true, database: 3, username: 'me' },
  ],
] as const)
  test(`${url} says host, port, database, user and TLS`, () => {
    assert.deepEqual(parseRedisUrl(url), wanted);
  });

for (const url of ['http://cache', 'cache:6379', 'redis://cache/one', 'redis://:hunter2@cache'])
  test(`${url} is refused with what is expected, without the password`, () => {
    assert.throws(
      () => parseRedisUrl(url),
      ({ message }: Error) => message.includes('must be redis://') && !message.includes('hunter2'),
    );
  });
