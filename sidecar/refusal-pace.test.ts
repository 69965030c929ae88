import assert from 'node:assert/strict';
import { test } from 'node:test';
import { RefusalPace } from './refusal-pace.ts';

/** Takes until one is refused or this many were taken. */
function taken(pace: RefusalPace, atMost: number, nowMs: number): number {
  let count = 0;
  while (count < atMost && pace.take(nowMs)) count += 1;
  return count;
}

test('two thousand refusals are answered at once, each further one is held back two milliseconds more', () => {
  const pace = new RefusalPace();
  assert.equal(taken(pace, 2_000, 0), 2_000);
  assert.equal(pace.aheadMs(0), 0);
  assert.equal(taken(pace, 100, 0), 100);
  assert.equal(pace.aheadMs(0), 200);
  assert.equal(pace.aheadMs(150), 50, 'time goes on');
  assert.equal(pace.aheadMs(5_000), 0);
  assert.equal(taken(pace, 2_000, 60_000), 2_000, 'a quiet minute makes up for all of them');
  assert.equal(pace.aheadMs(60_000), 0);
});

test('only what is ten seconds ahead is not counted in', () => {
  const pace = new RefusalPace();
  assert.equal(taken(pace, 10_000, 0), 2_000 + 5_000 + 1);
  assert.ok(pace.take(4));
});
