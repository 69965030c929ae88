import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Limit } from './limit.ts';
import { LocalLimits } from './local.ts';

/** Limits that are counted by a clock which stands until it is moved. */
function counted() {
  const clock = { nowMs: 1_000 };
  const limits = new LocalLimits(() => clock.nowMs);
  return { clock, limits };
}

function limit(key: string, change: Partial<Limit> = {}): Limit {
  return {
    dimension: 'principal',
    unit: 'requests',
    key,
    rate: { count: 60, perMs: 60_000 },
    burst: 10,
    ...change,
  };
}

test('60/min burst 10: ten at once, then one a second, and the wait is never a minute', () => {
  const { clock, limits } = counted();
  const outcomes = Array.from({ length: 12 }, () => limits.take([limit('a')]));
  assert.deepEqual(
    outcomes.map(({ ok }) => ok),
    [...Array.from({ length: 10 }, () => true), false, false],
  );
  const last = outcomes.at(-1);
  assert.ok(last?.ok === false && last.retryAfterMs === 1_000);
  clock.nowMs += 999;
  assert.equal(limits.take([limit('a')]).ok, false);
  clock.nowMs += 1;
  assert.equal(limits.take([limit('a')]).ok, true);
  assert.equal(limits.take([limit('a')]).ok, false);
});

test('over any time no more go through than the burst and what the rate brings', () => {
  const { clock, limits } = counted();
  let through = 0;
  for (let at = 0; at < 60_000; at += 7) {
    clock.nowMs = 1_000 + at;
    if (limits.take([limit('a')]).ok) through += 1;
  }
  assert.equal(through, 10 + 59);
});

test('of several limits the longest wait is told, and what one refuses is taken of none', () => {
  const { clock, limits } = counted();
  const slow = limit('slow', { rate: { count: 1, perMs: 60_000 }, burst: 1 });
  const quick = limit('quick', { burst: 2 });
  assert.equal(limits.take([quick, slow]).ok, true);
  for (let tries = 0; tries < 5; tries++) {
    const refused = limits.take([quick, slow]);
    assert.ok(!refused.ok && refused.limit.key === 'slow' && refused.retryAfterMs === 60_000);
  }
  assert.equal(limits.take([quick]).ok, true, 'the refused ones have taken nothing of it');
  clock.nowMs += 60_000;
  assert.equal(limits.take([quick, slow]).ok, true);
});

test('bytes are paid for afterwards: who is in debt waits until some of the burst is there again', () => {
  const { clock, limits } = counted();
  const bytes = limit('b', { unit: 'bytes', rate: { count: 1_000, perMs: 1_000 }, burst: 5_000 });
  const first = limits.take([bytes]);
  assert.ok(first.ok);
  first.spend(4_000);
  const second = limits.take([bytes]);
  assert.ok(second.ok, '1 000 are left');
  second.spend(3_000);
  const third = limits.take([bytes]);
  assert.ok(!third.ok && third.retryAfterMs === 2_000);
  clock.nowMs += 2_000;
  assert.equal(limits.take([bytes]).ok, true);
});

test('what is whole again is forgotten, so that keys of callers who left do not pile up', () => {
  const { clock, limits } = counted();
  for (let at = 0; at < 10_000; at++) {
    clock.nowMs += 100;
    limits.take([limit(`k${at}`)]);
  }
  assert.ok(limits.size <= 1_025, `${limits.size}`);
});
