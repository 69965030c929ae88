import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { createServer, type Socket } from 'node:net';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { listen } from '#core/http';
import { temporaryDirectory } from '../../testing.ts';
import { RedisConnection, redisPlace } from './redis-connection.ts';

/** Something that takes connections at the address and is no Redis. */
async function startImpostor(t: TestContext, answer: (socket: Socket) => void) {
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
  const redis = new RedisConnection(redisPlace(`redis://127.0.0.1:${address.port}`, undefined));
  t.after(() => redis.close());
  return { redis, connections: () => connections };
}

for (const [what, answer] of [
  ['says nothing', () => {}],
  ['speaks another protocol', (socket: Socket) => socket.end('HTTP/1.1 400 Bad Request\r\n\r\n')],
  ['hangs up', (socket: Socket) => socket.destroy()],
] as const)
  test(`one that ${what} is away: it is given up within a second, and not asked again at once`, async (t) => {
    const { redis, connections } = await startImpostor(t, answer);
    const from = performance.now();
    await Promise.all([
      assert.rejects(redis.ask(['GET', 'a'])),
      assert.rejects(redis.ask(['GET', 'b'])),
    ]);
    assert.ok(performance.now() - from < 1_000, 'a session waits for this');
    await assert.rejects(redis.ask(['GET', 'c']), /away/);
    assert.equal(connections(), 1);
  });

test('an address says host, port, database and TLS; a password is in a file of its own', (t) => {
  const file = join(temporaryDirectory(t), 'password');
  writeFileSync(file, 'hunter2\n', { mode: 0o600 });
  assert.deepEqual(redisPlace('redis://cache', undefined), {
    host: 'cache',
    port: 6_379,
    tls: false,
    database: 0,
    password: undefined,
  });
  assert.deepEqual(redisPlace('rediss://[::1]:7000/3', file), {
    host: '::1',
    port: 7_000,
    tls: true,
    database: 3,
    password: 'hunter2',
  });
});

for (const [text, names] of [
  ['http://cache', /gateway\.recoveryRedis must be/],
  ['cache:6379', /gateway\.recoveryRedis must be/],
  ['redis://cache/one', /gateway\.recoveryRedis must be/],
  ['redis://:hunter2@cache', /gateway\.recoveryRedisPasswordFile/],
] as const)
  test(`${text} is refused with what to change, without the password`, () => {
    assert.throws(
      () => redisPlace(text, undefined),
      (error: unknown) => {
        const { code, message } = Object(error);
        assert.equal(code, 'CONFIG_INVALID');
        assert.match(message, names);
        assert.doesNotMatch(message, /hunter2/);
        return true;
      },
    );
  });

test('a password that others may read, or none, is refused', (t) => {
  const file = join(temporaryDirectory(t), 'password');
  writeFileSync(file, 'hunter2', { mode: 0o644 });
  for (const path of [file, `${file}-absent`])
    assert.throws(() => redisPlace('redis://cache', path), { code: 'CONFIG_INVALID' });
});
