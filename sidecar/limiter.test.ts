import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Limiter } from './limiter.ts';
import type { Refused } from './refusal.ts';

const RATE = { rate: { count: 60, perMs: 60_000 }, burst: 3 };

test('a burst passes at once, then one a second, and a rest earns the burst again', () => {
  const limiter = new Limiter();
  const at = (nowMs: number): string => {
    try {
      limiter.take('p', 'r', RATE, nowMs)();
      return 'taken';
    } catch (thrown) {
      return `wait ${(thrown as Refused).retryAfterMs}`;
    }
  };
  assert.deepEqual([0, 0, 0, 0].map(at), ['taken', 'taken', 'taken', 'wait 1000']);
  assert.deepEqual([999, 1_000, 1_001].map(at), ['wait 1', 'taken', 'wait 999']);
  assert.deepEqual([60_000, 60_000, 60_000, 60_000].map(at), [
    'taken',
    'taken',
    'taken',
    'wait 1000',
  ]);
});

test('rules do not share places', () => {
  const limiter = new Limiter();
  const one = { rate: { count: 1, perMs: 1_000 } };
  limiter.take('p', 'a', one, 0);
  limiter.take('p', 'b', one, 0);
  limiter.take('q', 'a', one, 0);
  assert.throws(() => limiter.take('p', 'a', one, 0), { code: 'RATE_LIMITED' });
});

test('concurrency is given back once, when the request ends', () => {
  const limiter = new Limiter();
  const two = { concurrent: 2 };
  const release = limiter.take('p', 'r', two, 0);
  limiter.take('p', 'r', two, 0);
  assert.throws(() => limiter.take('p', 'r', two, 0), { code: 'RATE_LIMITED' });
  release();
  release();
  limiter.take('p', 'r', two, 0);
  assert.throws(() => limiter.take('p', 'r', two, 0), { code: 'RATE_LIMITED' });
});
