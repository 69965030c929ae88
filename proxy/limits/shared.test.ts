import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { LeaseAnswer, LeaseAsk, LeaseStore } from './lease-store.ts';
import type { Limit, Taken } from './limit.ts';
import { MemoryLeases } from './memory-store.ts';
import { SharedLimits } from './shared.ts';

const LIMIT: Limit = {
  dimension: 'datasource',
  unit: 'requests',
  key: 'k',
  rate: { count: 60, perMs: 60_000 },
  burst: 10,
};

/** A store that can be taken away, and that can be slow or answer nothing. */
class Outage implements LeaseStore {
  available = true;
  asked = 0;
  readonly #store: LeaseStore;
  readonly #answer: (answers: readonly LeaseAnswer[]) => Promise<readonly LeaseAnswer[]>;

  constructor(
    store: LeaseStore,
    answer = (answers: readonly LeaseAnswer[]) => Promise.resolve(answers),
  ) {
    this.#store = store;
    this.#answer = answer;
  }

  async ask(asks: readonly LeaseAsk[]): Promise<readonly LeaseAnswer[]> {
    this.asked += 1;
    if (!this.available) throw new Error('away');
    return this.#answer(await this.#store.ask(asks));
  }

  close(): void {}
}

/** For what is no matter of time: however long a busy machine takes, nothing more comes, and nobody is held for too long. */
const STANDING = (): number => 1_000;

/** Some proxies with one store between them. */
function proxies(
  t: TestContext,
  count: number,
  {
    now = () => performance.now(),
    answer,
  }: { now?: () => number; answer?: ConstructorParameters<typeof Outage>[1] } = {},
) {
  const leases = new MemoryLeases({ now });
  const stores = Array.from({ length: count }, (_, at) => new Outage(leases.of(`p${at}`), answer));
  const limits = stores.map((store) => new SharedLimits({ store, proxies: count, now }));
  t.after(() => Promise.all(limits.map((one) => one.close())));
  return { stores, limits };
}

const isThrough = ({ ok }: Taken): boolean => ok;

test('F6: 60/min burst 10 holds over two proxies, however the requests are spread, and the wait is at most a second', async (t) => {
  const spreads: readonly (readonly [(at: number) => number, boolean])[] = [
    [() => 0, false],
    [(at) => at % 2, false],
    [(at) => (at < 3 ? 0 : 1), true],
  ];
  for (const [spread, kept] of spreads) {
    const { limits } = proxies(t, 2, { now: STANDING });
    const outcomes: Taken[] = [];
    for (let at = 0; at < 20; at++) {
      const taken = await limits[spread(at)]?.take([LIMIT]);
      if (taken) outcomes.push(taken);
    }
    // One may be kept for a proxy that has used the limit lately.
    assert.equal(outcomes.filter(isThrough).length, kept ? 9 : 10);
    for (const one of outcomes)
      if (!one.ok)
        assert.ok(one.retryAfterMs >= 1 && one.retryAfterMs <= 2_000, `${one.retryAfterMs}`);
  }
});

test('ten at once go through where ten may, and eleven do not', async (t) => {
  const { limits } = proxies(t, 4, { now: STANDING });
  const outcomes = await Promise.all(
    Array.from({ length: 11 }, () => Promise.resolve(limits[0]?.take([LIMIT]))),
  );
  assert.equal(outcomes.filter((one) => one?.ok).length, 10);
});

test('a request that is covered by what is held does not wait for the store', async (t) => {
  let nowMs = 0; // a millisecond later with each request
  const answer = async (answers: readonly LeaseAnswer[]) => {
    await sleep(20);
    return answers;
  };
  const { limits, stores } = proxies(t, 2, { now: () => nowMs, answer });
  const [one] = limits;
  const many = { ...LIMIT, rate: { count: 1_000, perMs: 1_000 }, burst: 1_000 };
  assert.ok((await one?.take([many]))?.ok);
  let waited = 0;
  for (let at = 0; at < 300; at++) {
    const taken = one?.take([many]);
    if (taken instanceof Promise) waited += 1;
    assert.ok((await taken)?.ok);
    nowMs += 1;
    await sleep(1);
  }
  assert.ok(waited < 60, `${waited} of 300 were held`);
  assert.ok((stores[0]?.asked ?? 0) < 60, 'and the store is asked in batches');
});

test('a refused caller is told so at once, and the store is not asked for each', async (t) => {
  const { limits, stores } = proxies(t, 1, { now: STANDING });
  const [one] = limits;
  for (let at = 0; at < 10; at++) assert.ok((await one?.take([LIMIT]))?.ok);
  await one?.take([LIMIT]);
  const before = stores[0]?.asked ?? 0;
  for (let at = 0; at < 1_000; at++) assert.equal((await one?.take([LIMIT]))?.ok, false);
  assert.ok((stores[0]?.asked ?? 0) - before < 20);
});

test('while the store is away each proxy lets its share through, all together no more than the limit', async (t) => {
  const count = 4;
  const rate = 400;
  const limit = { ...LIMIT, rate: { count: rate, perMs: 1_000 }, burst: 20 };
  const { limits, stores } = proxies(t, count);
  const from = performance.now();
  let through = 0;
  let denied = 0;
  let awayFrom = Number.POSITIVE_INFINITY;
  /** One that asks as often as it can, and three that ask for less than their share. */
  const caller = async (one: SharedLimits, everyMs: number): Promise<void> => {
    while (performance.now() - from < 2_000) {
      const taken = await one.take([limit]);
      if (taken.ok) through += 1;
      else if (everyMs > 1 && performance.now() > awayFrom) denied += 1;
      await sleep(everyMs);
    }
  };
  const outage = async (): Promise<void> => {
    await sleep(1_000);
    for (const store of stores) store.available = false;
    awayFrom = performance.now();
  };
  await Promise.all([outage(), ...limits.map((one, at) => caller(one, at === 0 ? 0 : 20))]);
  const seconds = (performance.now() - from) / 1_000;
  assert.ok(through <= limit.burst + rate * seconds, `${through} in ${seconds} s`);
  assert.ok(through >= rate * seconds * 0.1, `${through}: it is no outage`);
  assert.equal(denied, 0, 'who asks for less than the share is not refused');
});

test('what was let through while the store was away is paid for when it is back', async (t) => {
  const { limits, stores } = proxies(t, 2, { now: STANDING });
  const [one, two] = limits;
  for (let at = 0; at < 10; at++) assert.ok((await one?.take([LIMIT]))?.ok);
  for (const store of stores) store.available = false;
  assert.ok((await two?.take([LIMIT]))?.ok, 'one that has not heard of the limit lets one through');
  assert.equal((await two?.take([LIMIT]))?.ok, false);
  for (const store of stores) store.available = true;
  const back = await two?.take([LIMIT]);
  assert.ok(back && !back.ok);
  assert.ok(back.retryAfterMs > 1_000, 'the debt, and then one');
});

test('bytes are shared, too: who is in debt waits, wherever the debt was made', async (t) => {
  const { limits } = proxies(t, 2, { now: STANDING });
  const bytes: Limit = {
    ...LIMIT,
    unit: 'bytes',
    rate: { count: 1, perMs: 60_000 },
    burst: 6_400,
  };
  const [one, two] = limits;
  const first = await one?.take([bytes]);
  assert.ok(first?.ok);
  first.spend(6_000);
  assert.equal((await two?.take([bytes]))?.ok, true, 'some are left');
  first.spend(1_000);
  assert.equal((await one?.take([bytes]))?.ok, false);
  assert.equal((await two?.take([{ ...bytes, key: 'other' }]))?.ok, true, 'another limit');
});
