import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import { createServer as createTcpServer, type Socket } from 'node:net';
import { after, before, describe, type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { LOCAL_PRINCIPAL } from '#core/principal';
import { parseRedisUrl } from '#core/redis';
import { createRedisStore, type LeaseStore, type Limit, LocalLimits, SharedLimits } from '#proxy';
import { leaseFacts } from '../../proxy/limits/contract.ts';
import { apiPolicies, type Proxies, startProxies } from '../support/proxies.ts';
import { freePort, startRedis, type TestRedis, until } from '../support/redis.ts';

const LIMIT: Limit = {
  dimension: 'datasource',
  unit: 'requests',
  key: 'k',
  rate: { count: 200, perMs: 1_000 },
  burst: 20,
};

describe('in Redis', () => {
  const stores = new Map<string, LeaseStore>();
  let redis: TestRedis;
  before(async () => {
    redis = await startRedis();
  });
  after(async () => {
    for (const store of stores.values()) await store.close();
    await redis.stop();
  });
  leaseFacts(async (member) => {
    const store = stores.get(member) ?? (await redis.store(member));
    stores.set(member, store);
    return store;
  });

  test('a password is asked for, and a wrong one is no store', async (t) => {
    const locked = await startRedis(['--requirepass', 'swordfish']);
    t.after(() => locked.stop());
    const of = (password: string) =>
      createRedisStore('a', {
        address: parseRedisUrl(`redis://127.0.0.1:${locked.port}/1`),
        password: () => password,
      });
    const [right, wrong] = [of('swordfish'), of('guess')];
    t.after(() => [right, wrong].map((store) => store.close()));
    await until(() => Promise.resolve(right.available));
    assert.equal(wrong.available, false);
  });
});

/** Asks `ask` as the member `at` of four is asked until `over`: the first as often as it goes, the others for a little less than their share. */
async function asking(at: number, over: () => boolean, ask: () => unknown): Promise<void> {
  while (!over()) {
    await ask();
    await sleep(at === 0 ? 0 : 25);
  }
}

/**
 * Four views of one limit; and `asOne`, what one proxy of its own lets through that is asked as all of them are, waiting for none of them: less
 * than the limit where this process is held up.
 */
async function skewed(
  t: TestContext,
  redis: TestRedis,
  forMs: number,
  halfway: () => Promise<void>,
) {
  const limits = await Promise.all(
    ['a', 'b', 'c', 'd'].map(
      async (name) => new SharedLimits({ store: await redis.store(name), proxies: 4 }),
    ),
  );
  t.after(() => Promise.all(limits.map((one) => one.close())));
  const from = performance.now();
  const over = () => performance.now() - from >= forMs;
  const counts = { through: 0, asOne: 0, deniedAlone: 0 };
  const single = new LocalLimits();
  let alone = false;
  await Promise.all([
    sleep(forMs / 2)
      .then(halfway)
      .then(() => {
        alone = true;
      }),
    ...limits.map((one, at) =>
      asking(at, over, async () => {
        const taken = await one.take([LIMIT]);
        if (taken.ok) counts.through += 1;
        else if (at > 0 && alone) counts.deniedAlone += 1;
      }),
    ),
    ...limits.map((_, at) =>
      asking(at, over, () => {
        if (single.take([LIMIT]).ok) counts.asOne += 1;
      }),
    ),
  ]);
  const seconds = (performance.now() - from) / 1_000;
  const allowed = LIMIT.burst + (LIMIT.rate.count * 1_000 * seconds) / LIMIT.rate.perMs;
  return { ...counts, allowed };
}

test('four proxies, one of them flooded, let no more through than one would, and nearly as much', async (t) => {
  const redis = await startRedis();
  t.after(() => redis.stop());
  const { through, asOne, allowed } = await skewed(t, redis, 4_000, () => Promise.resolve());
  assert.ok(through <= allowed, `${through} of ${allowed}`);
  assert.ok(through >= asOne * 0.85, `${through} of ${asOne}`);
});

test('Redis killed under way: never more than the limit, and nobody within their share is refused', async (t) => {
  const redis = await startRedis();
  t.after(() => redis.stop());
  const { through, allowed, deniedAlone } = await skewed(t, redis, 4_000, () => redis.kill());
  assert.ok(through <= allowed, `${through} of ${allowed}`);
  assert.equal(deniedAlone, 0);
});

test('a Redis that comes back, empty, is used again, and the limit is not whole because of that', async (t) => {
  const redis = await startRedis();
  t.after(() => redis.stop());
  const store = await redis.store('a');
  const slow: Limit = { ...LIMIT, rate: { count: 60, perMs: 60_000 }, burst: 10 };
  const limits = new SharedLimits({ store, proxies: 1 });
  t.after(() => limits.close());
  for (let at = 0; at < 10; at++) assert.ok((await limits.take([slow])).ok);
  await redis.kill();
  await until(() => Promise.resolve(!store.available));
  await redis.again();
  await until(() => Promise.resolve(store.available));
  let through = 0;
  for (let at = 0; at < 10; at++) if ((await limits.take([slow])).ok) through += 1;
  assert.ok(through <= 3, `${through}`);
});

/** What is not Redis, or not a well one, where Redis should be. */
const ILL: Readonly<Record<string, (socket: Socket) => void>> = {
  'half-open': () => {},
  garbage: (socket) => void socket.on('data', () => socket.write('HTTP/1.1 400 no\r\n\r\n')),
  slow: (socket) =>
    void socket.on('data', () => {
      setTimeout(() => socket.write('+OK\r\n'), 2_000).unref();
    }),
};
for (const [fault, behave] of Object.entries(ILL))
  test(`Redis ${fault}: each proxy lets its share through, and no request waits for it`, async (t) => {
    const sockets = new Set<Socket>();
    const server = createTcpServer((socket) => {
      sockets.add(socket);
      socket.on('error', () => {});
      behave(socket);
    });
    const port = await freePort();
    server.listen(port, '127.0.0.1');
    t.after(() => {
      for (const socket of sockets) socket.destroy();
      server.close();
    });
    const store = createRedisStore('a', {
      address: parseRedisUrl(`redis://127.0.0.1:${port}`),
      password: () => undefined,
    });
    const limits = new SharedLimits({ store, proxies: 4 });
    t.after(() => limits.close());
    await until(() => Promise.resolve(sockets.size > 0));
    const from = performance.now();
    let through = 0;
    let slowest = 0;
    while (performance.now() - from < 1_500) {
      const began = performance.now();
      if ((await limits.take([LIMIT])).ok) through += 1;
      slowest = Math.max(slowest, performance.now() - began);
      await sleep(1);
    }
    const share = (LIMIT.burst + (LIMIT.rate.count * (performance.now() - from)) / 1_000) / 4;
    assert.ok(through <= share + 1, `${through} of ${share}`);
    assert.ok(through >= share * 0.6, `${through} of ${share}`);
    assert.ok(slowest < 100, `${slowest} ms`);
  });

for (const workers of [1, 2])
  describe(`two proxies, each of ${workers} workers`, () => {
    let redis: TestRedis;
    let proxies: Proxies;
    const origin = createServer((_request, response) => response.end('hello'));
    before(async () => {
      redis = await startRedis();
      origin.listen(0, '127.0.0.1');
      await until(() => Promise.resolve(origin.listening));
      const address = origin.address();
      const port = typeof address === 'object' ? address?.port : undefined;
      proxies = await startProxies({
        count: 2,
        policies: apiPolicies(port ?? 0),
        config: { workers, limits: { redis: `redis://127.0.0.1:${redis.port}`, proxies: 2 } },
      });
      for (const { adminPort } of proxies.each)
        await until(async () => /limit_store_up\{[^}]*\} 1/.test(await metrics(adminPort)));
    });
    after(async () => {
      await proxies.stop();
      await redis.stop();
      origin.close();
    });

    test('F6: 60/min burst 10 of one user and datasource holds over both and over many sandboxes; Retry-After is a second', async () => {
      const tokens = await Promise.all(
        Array.from({ length: 6 }, (_, at) => proxies.token({ sandboxId: `sbx-${at}` })),
      );
      const statuses: number[] = [];
      for (let at = 0; at < 30; at++) {
        const asked = await proxies.each[at % 2]?.ask('/http/api/x', tokens[at % 6] ?? '');
        statuses.push(asked?.status ?? 0);
        if (asked?.status === 429) assert.ok(Number(asked.headers['retry-after']) <= 1);
      }
      const through = statuses.filter((status) => status === 200).length;
      assert.ok(through === 10 || through === 11, `${through}: a second may have passed`);
      assert.equal(statuses.filter((status) => status === 429).length, 30 - through);
      const other = await proxies.token({
        principal: { ...LOCAL_PRINCIPAL, subject: 'another' },
      });
      assert.equal((await proxies.each[0]?.ask('/http/api/x', other))?.status, 200, 'another user');
    });
  });

async function metrics(port: number): Promise<string> {
  const response = await fetch(`http://127.0.0.1:${port}/metrics`);
  return response.text();
}
