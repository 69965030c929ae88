import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import { after, before, describe, type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseRedisUrl } from '#core/redis';
import type { Budget } from '#policies';
import { type BudgetStore, createBudgetRedis, SharedBudgets } from '#proxy';
import { boundary, egress } from '../../policies/fixture.ts';
import { loopbackDatasource } from '../support/policies.ts';
import { type Proxies, startProxies } from '../support/proxies.ts';
import { startRedis, type TestRedis, until } from '../support/redis.ts';

const ANN = { tenant: 'acme', role: 'analyst', sandbox: 'sb-1', credential: '' };
const BEN = { ...ANN, tenant: 'other' };

function budget(most: Pick<Budget, 'requests' | 'bytes'>, id = 'daily'): Budget {
  return { policy: 'p', id, apart: ['tenant'], period: 'month', ...most };
}

type Change = (store: BudgetStore) => BudgetStore;

/** The budgets of so many proxies in one Redis. */
async function meshOf(
  t: TestContext,
  count: number,
  redis?: TestRedis,
  change: Change = (store) => store,
  now = () => performance.now(),
) {
  const own = redis ?? (await startRedis());
  if (!redis) t.after(() => own.stop());
  const each = await Promise.all(
    Array.from({ length: count }, async (_, at) => {
      const store = createBudgetRedis(`${performance.now()}-${at}`, {
        address: parseRedisUrl(`redis://127.0.0.1:${own.port}`),
        password: () => undefined,
      });
      await until(() => Promise.resolve(store.available));
      const budgets = new SharedBudgets({ store: change(store), proxies: count, now });
      t.after(() => budgets.close());
      return { store, budgets };
    }),
  );
  return { redis: own, each, budgets: each.map((one) => one.budgets) };
}

async function take(budgets: SharedBudgets, most: readonly Budget[], spender = ANN) {
  return budgets.take(most, spender, Date.now());
}

/** How many of `count` requests one after the other get through. */
async function through(budgets: SharedBudgets, most: readonly Budget[], count: number) {
  let ok = 0;
  for (let at = 0; at < count; at++) if ((await take(budgets, most)).ok) ok += 1;
  return ok;
}

test('four proxies let through what one would, to the last request, however skewed and however many at once', async (t) => {
  const { budgets } = await meshOf(t, 4);
  const most = [budget({ requests: 1_000 })];
  const counts = budgets.map(() => 0);
  await Promise.all(
    budgets.flatMap((one, at) =>
      Array.from({ length: at === 0 ? 20 : 2 }, async () => {
        for (let i = 0; i < 100; i++) {
          if ((await take(one, most)).ok) counts[at] = (counts[at] ?? 0) + 1;
          await sleep(1);
        }
      }),
    ),
  );
  const sum = counts.reduce((a, b) => a + b);
  assert.ok(sum <= 1_000, `${sum}`);
  // What one holds and has no use for comes back to the others.
  await until(async () => {
    for (const [at, one] of budgets.entries())
      counts[at] = (counts[at] ?? 0) + (await through(one, most, 20));
    return counts.reduce((a, b) => a + b) >= 1_000;
  });
  assert.equal(
    counts.reduce((a, b) => a + b),
    1_000,
  );
  const refused = await take(budgets[3] as SharedBudgets, most);
  assert.ok(!refused.ok && refused.budget === 'daily');
  assert.ok(refused.retryAfterMs > 0 && refused.retryAfterMs <= 31 * 86_400_000);
  assert.ok((await take(budgets[3] as SharedBudgets, most, BEN)).ok, 'another tenant');
});

test('without a store that they share, each lets the whole budget through', async (t) => {
  const most = [budget({ requests: 10 })];
  const [one] = (await meshOf(t, 1)).budgets;
  const [two] = (await meshOf(t, 1)).budgets;
  assert.ok(one && two);
  assert.equal((await through(one, most, 20)) + (await through(two, most, 20)), 20);
});

test('of a budget of two requests each of two proxies can have any', async (t) => {
  const { budgets } = await meshOf(t, 2);
  const [one, two] = budgets;
  assert.ok(one && two);
  for (const [id, order] of [
    ['a', [one, two, one]],
    ['b', [one, one, two]],
    ['c', [two, one, two]],
  ] as const) {
    const said: boolean[] = [];
    for (const proxy of order) said.push((await take(proxy, [budget({ requests: 2 }, id)])).ok);
    assert.deepEqual(said, [true, true, false], id);
  }
});

test('a request that is in flight where another budget is used up charges none', async (t) => {
  const [one] = (await meshOf(t, 1)).budgets;
  assert.ok(one);
  const [small, large] = [budget({ requests: 1 }, 'small'), budget({ requests: 3 }, 'large')];
  assert.equal(await through(one, [small, large], 10), 1);
  assert.equal(await through(one, [large], 10), 2);
});

test('bytes are counted for all, and the first that is too many ends what is under way', async (t) => {
  const { budgets } = await meshOf(t, 2);
  const most = [budget({ bytes: 1_000_000 })];
  const chunk = 50_000;
  let bytes = 0;
  await Promise.all(
    budgets.map(async (one) => {
      const taken = await take(one, most);
      assert.ok(taken.ok);
      let isOpen = true;
      while (isOpen) {
        isOpen = taken.spend(chunk);
        bytes += chunk;
        await sleep(2);
      }
    }),
  );
  assert.ok(bytes > 1_000_000 - 2 * chunk, `${bytes}`);
  assert.ok(bytes <= 2_000_000, `${bytes}`);
  for (const one of budgets) assert.equal((await take(one, most)).ok, false);
});

test('a proxy that was restarted knows what it has used', async (t) => {
  const redis = await startRedis();
  t.after(() => redis.stop());
  const most = [budget({ requests: 100 })];
  const [first] = (await meshOf(t, 1, redis)).budgets;
  assert.ok(first);
  assert.equal(await through(first, most, 60), 60);
  await first.close();
  const [second] = (await meshOf(t, 1, redis)).budgets;
  assert.ok(second);
  assert.equal(await through(second, most, 60), 40);
});

test('Redis killed under way: each goes on with what it holds, refuses soon what is beyond, and goes on when it is back and empty', async (t) => {
  const { redis, each } = await meshOf(t, 2);
  const most = [budget({ requests: 400 })];
  const counts = [0, 0];
  const all = async (count: number) => {
    for (const [at, { budgets }] of each.entries())
      counts[at] = (counts[at] ?? 0) + (await through(budgets, most, count));
  };
  await all(10);
  await sleep(50);
  await redis.kill();
  await until(() => Promise.resolve(each.every(({ store }) => !store.available)));
  const atKill = counts[0] ?? 0;
  const [one] = each;
  assert.ok(one);
  while ((await take(one.budgets, most)).ok) counts[0] = (counts[0] ?? 0) + 1;
  assert.ok((counts[0] ?? 0) > atKill + 20, `${counts[0]} held`);
  const began = performance.now();
  const refused = await take(one.budgets, most);
  assert.ok(!refused.ok && refused.retryAfterMs <= 1_000);
  assert.ok(performance.now() - began < 100);
  assert.equal((await take(one.budgets, most, BEN)).ok, false, 'of whom nothing is held');

  await redis.again();
  await until(() => Promise.resolve(each.every(({ store }) => store.available)));
  // Each has told it again what it had.
  await sleep(1_500);
  const deadline = performance.now() + 30_000;
  while ((counts[0] ?? 0) + (counts[1] ?? 0) < 400 && performance.now() < deadline) await all(50);
  await all(50);
  assert.equal((counts[0] ?? 0) + (counts[1] ?? 0), 400);
});

test('a Redis that comes back empty is told what was used by those who use nothing now, too', async (t) => {
  let later = 0;
  const { redis, each } = await meshOf(t, 2, undefined, undefined, () => performance.now() + later);
  const [one, two] = each;
  assert.ok(one && two);
  const most = [budget({ requests: 100 })];
  assert.equal(await through(one.budgets, most, 60), 60);
  later = 3_600_000;
  await sleep(1_000);
  await redis.kill();
  await until(() => Promise.resolve(!one.store.available && !two.store.available));
  await redis.again();
  await until(() => Promise.resolve(one.store.available && two.store.available));
  await sleep(1_000);
  assert.equal(await through(two.budgets, most, 100), 40);
});

test('an answer that got lost costs nobody anything', async (t) => {
  let lose = 0;
  const { budgets } = await meshOf(t, 1, undefined, (store) => ({
    get available() {
      return store.available;
    },
    async ask(asks) {
      const answers = await store.ask(asks);
      if (lose++ % 2 === 0) throw new Error('lost');
      return answers;
    },
    get connections() {
      return store.connections;
    },
    close: () => store.close(),
  }));
  const [one] = budgets;
  assert.ok(one);
  assert.equal(await through(one, [budget({ requests: 50 })], 100), 50);
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
      const port = typeof address === 'object' ? (address?.port ?? 0) : 0;
      const policy = egress('analyst', [{ id: 'api', datasource: 'http/api' }]);
      const documents = [
        {
          apiVersion: 'outrider/v1',
          kind: 'Role',
          metadata: { name: 'analyst' },
          spec: { members: [{ issuer: 'outrider:local' }], sandbox: { timeout: '2m' } },
        },
        boundary('organisation', { mayLoopbackDatasources: true }),
        {
          ...policy,
          spec: { ...policy.spec, budgets: [{ id: 'monthly', per: ['month'], requests: 25 }] },
        },
        loopbackDatasource('http', 'api', `http://127.0.0.1:${port}`),
      ];
      proxies = await startProxies({
        count: 2,
        policies: documents.map((one) => `---\n${JSON.stringify(one)}\n`).join(''),
        config: {
          workers,
          limits: {
            datasource: 'none',
            redis: `redis://127.0.0.1:${redis.port}`,
            proxies: 2,
          },
        },
      });
    });
    after(async () => {
      await proxies.stop();
      await redis.stop();
      origin.close();
    });

    test('a budget of 25 is 25 for both together', async () => {
      const token = await proxies.token();
      const statuses: number[] = [];
      const last = { body: '' };
      for (let at = 0; at < 60; at++) {
        const asked = await proxies.each[at % 2]?.ask('/http/api/x', token);
        statuses.push(asked?.status ?? 0);
        if (asked?.status === 429) last.body = asked.body;
        await sleep(20);
      }
      assert.equal(statuses.filter((status) => status === 200).length, 25, statuses.join(' '));
      assert.equal(statuses.filter((status) => status === 429).length, 35, statuses.join(' '));
      assert.match(last.body, /budget_exhausted/);
    });
  });
