import assert from 'node:assert/strict';
import { test } from 'node:test';
import { UsedOnce } from './used-once.ts';

function remembering(max: number) {
  let now = 1_000_000;
  let elapsed = 0;
  const used = new UsedOnce({ lifeMs: 1_000, max, now: () => now, elapsed: () => elapsed });
  return {
    use: (...keys: string[]) => keys.map((key) => used.use(key)),
    pass: (ms: number) => {
      now += ms;
      elapsed += ms;
    },
    set: (ms: number) => void (now += ms),
  };
}

test('what was used is known until it could not be shown any more', () => {
  const { use, pass } = remembering(10);
  assert.deepEqual(use('a', 'a', 'b'), ['first', 'again', 'first']);
  pass(999);
  assert.deepEqual(use('a', 'b'), ['again', 'again']);
  pass(1);
  assert.deepEqual(use('a'), ['first'], 'by now it has expired by itself');
});

test('F4: a memory that is full refuses what is new and forgets nothing', () => {
  const { use, pass } = remembering(2);
  assert.deepEqual(use('a', 'b', 'c'), ['first', 'first', 'full']);
  assert.deepEqual(use('a', 'b', 'c'), ['again', 'again', 'full']);
  pass(1_000);
  assert.deepEqual(use('c'), ['first'], 'control: with room again');
});

test('a clock that was set back forgets nothing early', () => {
  const { use, pass, set } = remembering(10);
  use('a');
  set(-5_000);
  use('b');
  pass(5_500);
  assert.deepEqual(use('a', 'b'), ['again', 'again']);
});

test('a clock that jumps ahead and back forgets nothing early', () => {
  const { use, set } = remembering(10);
  use('a');
  set(120_000);
  use('b');
  set(-120_000);
  assert.deepEqual(use('a', 'b'), ['again', 'again']);
});
