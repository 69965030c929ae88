import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Limits } from './projection.ts';
import { RuleLimits, stricterLimits } from './rule-limits.ts';

const MINUTELY: Limits = { rate: { count: 60, perMs: 60_000 }, burst: 3 };

/** What comes of taking a place at each of these times, and giving it back at once. */
function taking(limiter: RuleLimits, limits: Limits, ...times: number[]): string[] {
  return times.map((nowMs) => {
    const place = limiter.take('key', limits, nowMs);
    if (!place.ok) return `wait ${place.retryAfterMs}`;
    place.release();
    return 'taken';
  });
}

test('a burst passes at once, then one a second, and a rest earns the burst again', () => {
  const limiter = new RuleLimits();
  const burst = ['taken', 'taken', 'taken', 'wait 1000'];
  assert.deepEqual(taking(limiter, MINUTELY, 0, 0, 0, 0), burst);
  const later = ['wait 1', 'taken', 'wait 999'];
  assert.deepEqual(taking(limiter, MINUTELY, 999, 1_000, 1_001), later);
  assert.deepEqual(taking(limiter, MINUTELY, 60_000, 60_000, 60_000, 60_000), burst);
});

test('a rate without a burst lets one through at a time', () => {
  const times = [0, 0, 1_000];
  const { rate } = MINUTELY;
  assert.ok(rate);
  assert.deepEqual(taking(new RuleLimits(), { rate }, ...times), ['taken', 'wait 1000', 'taken']);
});

test('who raises a limit does not wait for the old one, and who lowers it is held to the new one', () => {
  const daily: Limits = { rate: { count: 1, perMs: 86_400_000 } };
  const raised = new RuleLimits();
  assert.deepEqual(taking(raised, daily, 0, 1), ['taken', 'wait 86399999']);
  assert.deepEqual(taking(raised, MINUTELY, 2, 1_002), ['wait 1000', 'taken']);
  const lowered = new RuleLimits();
  assert.deepEqual(taking(lowered, MINUTELY, 0, 0), ['taken', 'taken']);
  assert.deepEqual(taking(lowered, daily, 1), ['wait 1999']);
});

for (const limits of [
  MINUTELY,
  { rate: { count: 7, perMs: 10_000 }, burst: 5 },
  { rate: { count: 2, perMs: 3_600_000 } },
])
  test(`whoever sends what the quota leaves, and then waits, is never refused: ${JSON.stringify(limits)}`, () => {
    const limiter = new RuleLimits();
    let nowMs = 12_345;
    for (let round = 0; round < 20; round++) {
      const place = limiter.take('key', limits, nowMs);
      assert.ok(place.ok && place.quota);
      const { remaining, resetMs, count } = place.quota;
      // In all that was left at once, in the middle, or none of it.
      const used = [remaining, Math.floor(remaining / 2), 0][round % 3] ?? 0;
      for (let at = 0; at < used; at++) assert.ok(limiter.take('key', limits, nowMs).ok);
      nowMs += Math.ceil(resetMs);
      for (let at = 0; at < count - 1; at++) assert.ok(limiter.take('key', limits, nowMs).ok);
      assert.ok(limiter.take('key', limits, nowMs).ok, 'the whole quota is there again');
      const refused = limiter.take('key', limits, nowMs);
      assert.ok(!refused.ok && refused.quota?.remaining === 0, 'and no more than that');
      assert.equal(refused.quota.resetMs, refused.retryAfterMs);
      nowMs += refused.quota.windowMs + round * 777;
    }
  });

test('keys do not share places', () => {
  const limiter = new RuleLimits();
  const one: Limits = { rate: { count: 1, perMs: 1_000 } };
  const oks = ['a', 'b', 'a'].map((key) => limiter.take(key, one, 0).ok);
  assert.deepEqual(oks, [true, true, false]);
});

test('concurrency is given back once, when the request ends, and what it refuses takes no rate', () => {
  const limiter = new RuleLimits();
  const two: Limits = { concurrent: 2, rate: { count: 1, perMs: 1_000 }, burst: 3 };
  const first = limiter.take('r', two, 0);
  assert.ok(first.ok && limiter.take('r', two, 0).ok);
  const full = { ok: false, reason: 'concurrency_limited', retryAfterMs: 1_000 };
  assert.deepEqual(limiter.take('r', two, 0), full);
  first.release();
  first.release();
  assert.ok(limiter.take('r', two, 0).ok, 'the third of the burst');
  assert.deepEqual(limiter.take('r', two, 0), full);
});

test('keys that say nothing any more are forgotten; those that still count are not', () => {
  const limiter = new RuleLimits();
  const limits: Limits = { rate: { count: 1, perMs: 1_000 }, concurrent: 1 };
  assert.ok(limiter.take('running', limits, 0).ok);
  for (let at = 0; at < 5_000; at++) {
    const place = limiter.take(`key-${at}`, limits, at * 10);
    if (place.ok) place.release();
  }
  assert.ok(limiter.size < 1_500, `${limiter.size} keys`);
  assert.equal(limiter.take('running', limits, 60_000).ok, false);
  assert.equal(limiter.take('key-4999', limits, 49_991).ok, false);
});

const STRICTER: readonly (readonly [string, Limits, Limits, Limits])[] = [
  ['nothing and something', {}, { requestBytes: 5 }, { requestBytes: 5 }],
  [
    'the smaller of each number',
    { concurrent: 1, responseBytes: 9, durationMs: 3 },
    { concurrent: 2, responseBytes: 8, rows: 7 },
    { concurrent: 1, responseBytes: 8, durationMs: 3, rows: 7 },
  ],
  [
    'the slower rate, whatever its unit, and the smaller burst',
    { rate: { count: 2, perMs: 1_000 }, burst: 4 },
    { rate: { count: 60, perMs: 60_000 }, burst: 9 },
    { rate: { count: 60, perMs: 60_000 }, burst: 4 },
  ],
  [
    'a rate without a burst has one of 1',
    { rate: { count: 1, perMs: 1_000 } },
    { rate: { count: 2, perMs: 1_000 }, burst: 9 },
    { rate: { count: 1, perMs: 1_000 }, burst: 1 },
  ],
  ['one rate keeps its burst', MINUTELY, { concurrent: 4 }, { ...MINUTELY, concurrent: 4 }],
];
for (const [what, a, b, both] of STRICTER)
  test(`of two limits the stricter holds, in either order: ${what}`, () => {
    assert.deepEqual(stricterLimits(a, b), both);
    assert.deepEqual(stricterLimits(b, a), both);
  });
