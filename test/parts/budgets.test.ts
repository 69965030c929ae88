import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import { after, before, describe, type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseRedisUrl, Redis, type RedisCommand } from '#core/redis';
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

interface MeshOptions {
  readonly redis?: TestRedis;
  readonly change?: (store: BudgetStore) => BudgetStore;
  readonly now?: () => number;
  readonly wall?: () => number;
}

let members = 0;

/** The budgets of so many proxies in one Redis. */
async function meshOf(t: TestContext, count: number, options: MeshOptions = {}) {
  const { change = (store) => store, redis = await startRedis(), ...clocks } = options;
  if (!options.redis) t.after(() => redis.stop());
  const each = await Promise.all(
    Array.from({ length: count }, async () => {
      const store = createBudgetRedis(atPort(redis));
      await until(() => Promise.resolve(store.available));
      const member = `m${++members}`;
      const budgets = new SharedBudgets({
        store: change(store),
        member,
        proxies: count,
        ...clocks,
      });
      t.after(() => budgets.close());
      return { store, budgets };
    }),
  );
  return { redis, each, budgets: each.map((one) => one.budgets) };
}

function atPort({ port }: TestRedis) {
  return { address: parseRedisUrl(`redis://127.0.0.1:${port}`), password: () => undefined };
}

/** As an operator would. */
async function operate(redis: TestRedis, ...commands: RedisCommand[]) {
  const operator = new Redis({ ...atPort(redis), greet: [['PING']] });
  await until(() => Promise.resolve(operator.available));
  const replies = await operator.send(commands);
  operator.close();
  return replies;
}

/** The keys of accounts, in no order. */
async function accountsIn(redis: TestRedis) {
  const [keys] = await operate(redis, ['KEYS', 'outrider:budget:*']);
  return Array.isArray(keys) ? keys.map(String) : [];
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
  const [first] = (await meshOf(t, 1, { redis })).budgets;
  assert.ok(first);
  assert.equal(await through(first, most, 60), 60);
  await first.close();
  const [second] = (await meshOf(t, 1, { redis })).budgets;
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
  const { redis, each } = await meshOf(t, 2, { now: () => performance.now() + later });
  const [one, two] = each;
  assert.ok(one && two);
  const most = [budget({ requests: 1_000 })];
  assert.equal(await through(one.budgets, most, 600), 600);
  assert.equal(await through(two.budgets, most, 10), 10);
  later = 3_600_000; // whoever uses nothing for an hour
  await sleep(1_000);
  await redis.kill();
  await until(() => Promise.resolve(!one.store.available && !two.store.available));
  await redis.again();
  // At once, also before the other has told anything.
  await until(() => Promise.resolve(two.store.available));
  let ok = 0;
  const end = performance.now() + 30_000;
  while (ok < 390 && performance.now() < end) ok += await through(two.budgets, most, 10);
  for (let round = 0; round < 8; round++) {
    ok += await through(two.budgets, most, 50);
    await sleep(150);
  }
  assert.equal(ok, 390);
});

test('what is forgotten behind a connection that stands is told again, also by those who use nothing now', async (t) => {
  let later = 0;
  const { redis, each } = await meshOf(t, 3, { now: () => performance.now() + later });
  const [one, two, three] = each.map(({ budgets }) => budgets);
  assert.ok(one && two && three);
  const most = [budget({ requests: 1_000 })];
  assert.equal(await through(one, most, 600), 600);
  assert.equal(await through(two, most, 10), 10);
  later = 60_000; // whoever uses nothing for a minute
  await sleep(600);
  assert.equal(await through(three, most, 100), 100);
  await operate(redis, ['FLUSHALL']);
  let ok = 710;
  await until(async () => {
    for (const proxy of [two, three]) ok += await through(proxy, most, 50);
    await sleep(50);
    return ok >= 1_000;
  });
  for (const proxy of [one, two, three]) ok += await through(proxy, most, 50);
  assert.equal(ok, 1_000);
});

test('one account that Redis has dropped is told again, and no other is asked about for that', async (t) => {
  let asks = 0;
  let later = 0;
  const { redis, budgets } = await meshOf(t, 1, {
    change: (store) => ({
      get available() {
        return store.available;
      },
      watch: (listener) => store.watch(listener),
      ask(some) {
        asks += some.length;
        return store.ask(some);
      },
      close: () => store.close(),
    }),
    now: () => performance.now() + later,
  });
  const [one] = budgets;
  assert.ok(one);
  const most = [budget({ requests: 100 }, 'dropped')];
  assert.equal(await through(one, most, 60), 60);
  const accounts = Array.from({ length: 1_000 }, (_, index) => ({ ...ANN, tenant: `t${index}` }));
  await Promise.all(accounts.map((spender) => take(one, [budget({ requests: 1 })], spender)));
  const names = await accountsIn(redis);
  assert.equal(names.length, 1_001);
  const values = await operate(redis, ...names.map((key): RedisCommand => ['HVALS', key]));
  const dropped = names.find((_, index) => Number(String(values[index]).split(' ')[2]) > 1);
  later = 60_000; // the others are used no more
  await sleep(600);
  assert.equal((await operate(redis, ['DEL', dropped ?? '']))[0], 1);
  asks = 0;
  let ok = 0;
  await until(async () => (ok += await through(one, most, 50)) >= 40);
  assert.equal(ok + (await through(one, most, 50)), 40);
  assert.ok(asks < 500, `${asks}`);
});

test('a Redis that has become a copy of another is left for the one in its place', async (t) => {
  const redis = await startRedis();
  const other = await startRedis();
  t.after(() => Promise.all([redis.stop(), other.stop()]));
  const [one] = (await meshOf(t, 1, { redis })).budgets;
  assert.ok(one);
  const most = [budget({ requests: 1_000 })];
  assert.equal(await through(one, most, 10), 10);
  await operate(redis, ['REPLICAOF', '127.0.0.1', String(other.port)]);
  while ((await take(one, most)).ok);
  await operate(redis, ['REPLICAOF', 'NO', 'ONE']);
  await until(async () => (await take(one, most)).ok);
});

test('an answer that got lost costs nobody anything', async (t) => {
  let lose = 0;
  const [one] = (
    await meshOf(t, 1, {
      change: (store) => ({
        get available() {
          return store.available;
        },
        watch: (listener) => store.watch(listener),
        async ask(asks) {
          const answers = await store.ask(asks);
          if (lose++ % 2 === 0) throw new Error('lost');
          return answers;
        },
        close: () => store.close(),
      }),
    })
  ).budgets;
  assert.ok(one);
  assert.equal(await through(one, [budget({ requests: 50 })], 100), 50);
});

test('what was asked before and comes later changes nothing', async (t) => {
  const redis = await startRedis();
  t.after(() => redis.stop());
  const store = createBudgetRedis(atPort(redis));
  t.after(() => store.close());
  await until(() => Promise.resolve(store.available));
  const ask = { key: 'k', keepMs: 60_000, limit: 100 };
  const [first, late, other] = await store.ask([
    { ...ask, by: 'a', turn: 2, used: 60, total: 60, want: 20 },
    { ...ask, by: 'a', turn: 1, used: 0, total: 0, want: 30 },
    { ...ask, by: 'b', turn: 1, used: 0, total: 0, want: 100 },
  ]);
  assert.deepEqual([first?.granted, late?.granted, other?.granted], [20, 0, 20]);
});

test('budgets are as large as they may be written, and none disturbs another', async (t) => {
  const { redis, budgets } = await meshOf(t, 2);
  const [one, two] = budgets;
  assert.ok(one && two);
  for (const bytes of [5 * 2 ** 30, 2 ** 41, Number.MAX_SAFE_INTEGER]) {
    const most = [budget({ bytes }, `b${bytes}`), budget({ requests: 1_000 })];
    const taken = await take(one, most);
    assert.ok(taken.ok && taken.spend(2 ** 20), `${bytes}`);
    assert.ok((await take(two, most)).ok, `${bytes}`);
  }
  // What somebody has put in the place of one account.
  const poisoned = [budget({ requests: 10 }, 'poisoned')];
  const known = await accountsIn(redis);
  assert.ok((await take(one, poisoned)).ok);
  const [key, ...more] = (await accountsIn(redis)).filter((name) => !known.includes(name));
  assert.ok(key !== undefined && more.length === 0);
  await operate(redis, ['SET', key, 'x']);
  assert.ok((await through(one, poisoned, 20)) <= 9);
  assert.equal(await through(one, [budget({ requests: 30 }, 'sound')], 40), 30);
});

test('a clock that goes past the end of a period and back gives no budget anew', async (t) => {
  let later = 0;
  const [one] = (await meshOf(t, 1, { wall: () => Date.now() + later })).budgets;
  assert.ok(one);
  const most = [budget({ requests: 100 })];
  assert.equal(await through(one, most, 60), 60);
  later = 40 * 86_400_000;
  await sleep(600);
  later = 0;
  const ok = await through(one, most, 100);
  // What was held when the clock jumped is nobody's.
  assert.ok(ok <= 40 && ok >= 30, `${ok}`);
});

test('a clock that is ahead does not make the account of others end', async (t) => {
  const { redis, budgets } = await meshOf(t, 1, { wall: () => Date.now() + 40 * 86_400_000 });
  const [ahead] = budgets;
  const [right] = (await meshOf(t, 1, { redis })).budgets;
  assert.ok(ahead && right);
  const most = [budget({ requests: 100 })];
  assert.equal(await through(right, most, 60), 60);
  await take(ahead, most);
  const [key = ''] = await accountsIn(redis);
  const [ttl] = await operate(redis, ['PTTL', key]);
  const end = new Date();
  const endsMs = Date.UTC(end.getUTCFullYear(), end.getUTCMonth() + 1);
  assert.ok(Number(ttl) > endsMs - Date.now(), `${ttl?.toString()}`);
});

test('where Redis takes nothing more, bytes stop after 1 MiB', async (t) => {
  const { redis, budgets } = await meshOf(t, 1);
  const [one] = budgets;
  assert.ok(one);
  const limit = 10_000_000;
  const taken = await take(one, [budget({ bytes: limit })]);
  assert.ok(taken.ok);
  await operate(redis, ['CONFIG', 'SET', 'maxmemory', '1']);
  let bytes = 0;
  while (taken.spend(100_000)) {
    bytes += 100_000;
    assert.ok(bytes < limit, `${bytes}`);
    await sleep(20);
  }
  // A quarter of them was held.
  assert.ok(bytes <= limit / 4 + 2 ** 20, `${bytes}`);
});

test('a limit that a policy lowers holds at once, for what was held under the other one, too', async (t) => {
  const [one] = (await meshOf(t, 1)).budgets;
  assert.ok(one);
  assert.equal(await through(one, [budget({ requests: 100_000 })], 10), 10);
  const lower = [budget({ requests: 1_000 })];
  let ok = 0;
  // What is held under the other one is given back when nobody has used it for 5 s.
  await until(async () => (ok += await through(one, lower, 500)) >= 990);
  assert.equal(ok + (await through(one, lower, 500)), 990);
});

test('who finds nothing because others hold it is told to come again soon', async (t) => {
  const { budgets } = await meshOf(t, 2);
  const [one, two] = budgets;
  assert.ok(one && two);
  const most = [budget({ requests: 100 })];
  assert.equal(await through(one, most, 1), 1);
  assert.ok((await through(two, most, 100)) < 99);
  const refused = await take(two, most);
  assert.ok(!refused.ok && refused.retryAfterMs <= 1_000);
});

test('while Redis is away, who asks rarely still has what they held', async (t) => {
  let later = 0;
  const { redis, each } = await meshOf(t, 1, { now: () => performance.now() + later });
  const [one] = each;
  assert.ok(one);
  const most = [budget({ requests: 1_000 })];
  assert.equal(await through(one.budgets, most, 5), 5);
  await redis.kill();
  await until(() => Promise.resolve(!one.store.available));
  for (let hour = 1; hour <= 5; hour++) {
    later = hour * 3_600_000;
    await sleep(300);
    assert.equal(await through(one.budgets, most, 1), 1);
  }
});

test('each of very many accounts is told again, and who comes meanwhile does not wait for them', async (t) => {
  const { redis, each } = await meshOf(t, 1);
  const [one] = each;
  assert.ok(one);
  const most = [budget({ requests: 1 })];
  const accounts = Array.from({ length: 5_000 }, (_, index) => ({ ...ANN, tenant: `t${index}` }));
  for (const { ok } of await Promise.all(
    accounts.map((spender) => take(one.budgets, most, spender)),
  ))
    assert.ok(ok);
  await redis.kill();
  await until(() => Promise.resolve(!one.store.available));
  await redis.again();
  await until(() => Promise.resolve(one.store.available));
  await until(async () => (await take(one.budgets, most, { ...ANN, tenant: 'new' })).ok);
  const [two] = (await meshOf(t, 1, { redis })).budgets;
  assert.ok(two);
  await until(async () => Number((await operate(redis, ['DBSIZE']))[0]) >= 5_001);
  for (const spender of accounts.slice(0, 50)) assert.ok(!(await take(two, most, spender)).ok);
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
