import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as sleep, setImmediate as turn } from 'node:timers/promises';
import type { Budget } from '#policies';
import { type Countable, createCounts } from '../counts.ts';
import type { Limiter } from '../limits/limit.ts';
import { LocalLimits } from '../limits/local.ts';
import { CountsOfWorker } from './counts-of-worker.ts';
import { RemoteCounts } from './remote-counts.ts';

const SPENDER = { tenant: 't', role: 'r', sandbox: 's', credential: '' };
const NOTHING: Countable = { limits: [], concurrent: undefined, budgets: [], spender: SPENDER };
const budget = (most: Pick<Budget, 'requests' | 'bytes'>): Budget => ({
  policy: 'p',
  id: 'b',
  apart: [],
  period: 'day',
  ...most,
});

/** Two workers of one primary. */
function workers(limiter: () => Limiter = () => new LocalLimits()) {
  const shared = createCounts(new LocalLimits());
  let asked = 0;
  const each = [0, 1].map(() => {
    const there = new CountsOfWorker(shared, (ids) => here.markUsedUp(ids));
    const here: RemoteCounts = new RemoteCounts(
      {
        count: async (countable) => {
          asked += 1;
          return there.count(countable);
        },
        counting: (news) => there.counting(news),
      },
      limiter(),
    );
    return { here, there };
  });
  const [one, two] = each;
  assert.ok(one && two);
  return { one, two, asked: () => asked };
}

test('what nothing limits asks nobody', () => {
  const { one, asked } = workers();
  const taken = one.here.take(NOTHING);
  assert.ok(!(taken instanceof Promise) && taken.ok && taken.spend(1_000));
  assert.equal(asked(), 0);
});

test('places are one number for all workers; an end makes room, once, and so does the end of a worker', async () => {
  const { one, two } = workers();
  const held = { ...NOTHING, concurrent: { key: 'k', max: 2 } };
  const [first, second] = [await one.here.take(held), await two.here.take(held)];
  assert.ok(first.ok && second.ok);
  const third = await one.here.take(held);
  assert.ok(!third.ok && third.dimension === 'concurrency' && third.retryAfterMs > 0);
  first.release();
  first.release();
  await turn(); // behind the one that tells
  assert.ok((await two.here.take(held)).ok);
  assert.equal((await two.here.take(held)).ok, false, 'released twice is released once');
  two.there.close();
  assert.ok((await one.here.take(held)).ok);
  assert.ok((await one.here.take(held)).ok);
  assert.equal((await one.here.take(held)).ok, false);
});

test('bytes of one worker use up a budget for all, and what spends it is told to end', async () => {
  const { one, two } = workers();
  const spending = { ...NOTHING, budgets: [budget({ bytes: 1_000 })] };
  const [first, second] = [await one.here.take(spending), await two.here.take(spending)];
  assert.ok(first.ok && second.ok);
  assert.ok(first.spend(900));
  assert.ok(second.spend(50));
  assert.ok(second.spend(100), 'this uses it up');
  for (let tries = 0; second.spend(0) && tries < 500; tries++) await sleep(10);
  assert.equal(second.spend(1), false);
  const late = await one.here.take(spending);
  assert.ok(!late.ok && late.dimension === 'budget');
});

test('what a rate refuses takes no place and nothing of a budget; what has no place takes nothing of the rate', async () => {
  const { one } = workers();
  const rate = {
    dimension: 'rule',
    unit: 'requests',
    key: 'k',
    rate: { count: 1, perMs: 3_600_000 },
    burst: 2,
  } as const;
  const all = {
    ...NOTHING,
    limits: [rate],
    concurrent: { key: 'k', max: 1 },
    budgets: [budget({ requests: 2 })],
  };
  const first = await one.here.take(all);
  assert.ok(first.ok);
  const crowded = await one.here.take(all);
  assert.ok(!crowded.ok && crowded.dimension === 'concurrency');
  first.release();
  await turn(); // behind the one that tells
  const second = await one.here.take(all);
  assert.ok(second.ok, 'the second of the rate was still there');
  second.release();
  await turn(); // behind the one that tells
  const limited = await one.here.take(all);
  assert.ok(!limited.ok && limited.dimension === 'rule');
  const spent = await one.here.take({ ...NOTHING, budgets: all.budgets });
  assert.ok(!spent.ok && spent.dimension === 'budget', 'two were counted');
});

test('a place is free again where the rates of its request could not be asked for', async () => {
  const lost: Limiter = { take: () => Promise.reject(new Error('lost')), close() {} };
  const { one, two } = workers(() => lost);
  const held = { ...NOTHING, concurrent: { key: 'k', max: 1 } };
  await assert.rejects(async () => one.here.take(held), /lost/);
  await turn(); // behind the one that tells
  await assert.rejects(async () => two.here.take(held), /lost/, 'not for want of a place');
});
