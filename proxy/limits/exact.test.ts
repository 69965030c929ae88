import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { LeaseAsk } from './lease-store.ts';
import type { Limit, Taken } from './limit.ts';
import { MemoryLeases } from './memory-store.ts';
import { SharedLimits } from './shared.ts';

const SLOW: Limit = {
  dimension: 'datasource',
  unit: 'requests',
  key: 'slow',
  rate: { count: 1, perMs: 3_600_000 },
  burst: 10,
};
const FAST: Limit = { ...SLOW, key: 'fast', rate: { count: 1_000, perMs: 1_000 }, burst: 100 };

/** Workers of one proxy: what they ask is answered after a turn of the event loop, as by another process. */
function workers(t: TestContext, count: number, answerMs = 0) {
  const leases = new MemoryLeases({ keepsBack: false });
  let asked = 0;
  const each = Array.from({ length: count }, (_, at) => {
    const store = {
      available: true,
      async ask(asks: readonly LeaseAsk[]) {
        asked += 1;
        await sleep(answerMs);
        return asks.map((ask) => leases.answer(`w${at}`, ask));
      },
      close() {},
    };
    return new SharedLimits({ store, proxies: count, exact: true });
  });
  t.after(() => Promise.all(each.map((one) => one.close())));
  return {
    each,
    asks: () => asked,
    take: async (at: number, ...limits: readonly Limit[]) => each[at % count]?.take(limits),
  };
}

for (const [spread, how] of [
  [() => 0, 'all at one'],
  [(at: number) => at, 'in turn'],
  [(at: number) => (at < 3 ? 0 : 1), 'first one, then another'],
  [(at: number) => at % 7, 'unevenly'],
] as const)
  for (const together of [false, true])
    test(`F6: exactly ten of sixty go through where ten may, ${how}, ${together ? 'at once' : 'one after another'}`, async (t) => {
      const { take } = workers(t, 3);
      const outcomes: Promise<Taken | undefined>[] = [];
      for (let at = 0; at < 60; at++) {
        const taking = take(spread(at), SLOW);
        outcomes.push(taking);
        if (!together) await taking;
      }
      const all = await Promise.all(outcomes);
      assert.equal(all.filter((one) => one?.ok).length, 10);
      for (const one of all)
        if (one && !one.ok)
          assert.ok(one.retryAfterMs > 3_000_000 && one.retryAfterMs <= 3_600_000);
    });

test('a store that is slow to answer refuses nobody, and makes nobody wait for what cannot come', async (t) => {
  const { take, asks } = workers(t, 2, 200);
  const first = await Promise.all([take(0, SLOW), take(1, SLOW)]);
  assert.ok(first.every((one) => one?.ok));
  const rest = await Promise.all(Array.from({ length: 20 }, (_, at) => take(at, SLOW)));
  assert.equal(rest.filter((one) => one?.ok).length, 8);
  const asked = asks();
  assert.equal((await take(0, SLOW))?.ok, false);
  assert.equal(asks(), asked, 'it is known that there is none');
});

test('what one of two limits refuses is taken of neither, wherever it was asked for', async (t) => {
  const { take } = workers(t, 2);
  const other = { ...SLOW, key: 'other', burst: 2 };
  for (let at = 0; at < 20; at++) await take(at, SLOW, other);
  // Two of ten are used. What a refused request held of them is given back within a moment.
  await sleep(50);
  const left = await Promise.all(Array.from({ length: 20 }, (_, at) => take(at, SLOW)));
  assert.equal(left.filter((one) => one?.ok).length, 8);
});

for (const exact of [true, false])
  for (const idleMs of [2_000, 31_000, 45_000, 59_000])
    test(`F6: who comes back after ${idleMs} ms is let through at once${exact ? ', where nothing is held for later' : ''}`, async (t) => {
      let passedMs = 0;
      const now = (): number => performance.now() + passedMs;
      const leases = new MemoryLeases({ keepsBack: !exact, now });
      const one = new SharedLimits({ store: leases.of('w'), proxies: 2, exact, now });
      t.after(() => one.close());
      assert.ok((await one.take([SLOW])).ok);
      passedMs = idleMs;
      await sleep(300); // what is held unused is given back meanwhile
      assert.ok((await one.take([SLOW])).ok);
    });

test('of a fast limit most requests do not wait, and none is refused that may go', async (t) => {
  const { each } = workers(t, 2, 1);
  const fast = { ...FAST, rate: { count: 100_000, perMs: 1_000 }, burst: 10_000 };
  let waited = 0;
  for (let at = 0; at < 600; at++) {
    const taking = each[at % 2]?.take([fast]);
    if (taking instanceof Promise) waited += 1;
    assert.ok((await taking)?.ok);
    await sleep(1);
  }
  assert.ok(waited < 200, `${waited} of 600 waited`);
});

test('a flood of two workers gets the whole rate and no more', async (t) => {
  const { take } = workers(t, 2);
  const from = performance.now();
  let through = 0;
  await Promise.all(
    [0, 1].map(async (at) => {
      while (performance.now() - from < 1_500) {
        if ((await take(at, FAST))?.ok) through += 1;
        else await sleep(1);
      }
    }),
  );
  const allowed = 100 + performance.now() - from;
  assert.ok(through <= allowed, `${through} of ${allowed}`);
  // A machine that stands still for longer than the burst lasts loses what came meanwhile, with one process, too.
  assert.ok(through >= allowed * 0.2, `${through} of ${allowed}`);
});
