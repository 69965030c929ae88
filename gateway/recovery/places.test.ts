import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Places } from './places.ts';

test('no more than there are places is done at once, in the order of coming, whatever fails', async () => {
  const places = new Places(2);
  let running = 0;
  let most = 0;
  const order: number[] = [];
  const work = (n: number) => async () => {
    order.push(n);
    most = Math.max(most, ++running);
    await new Promise(setImmediate);
    running -= 1;
    if (n % 2 === 1) throw new Error('odd');
    return n;
  };
  const results = await Promise.allSettled([0, 1, 2, 3, 4, 5].map((n) => places.within(work(n))));
  assert.equal(most, 2);
  assert.deepEqual(order, [0, 1, 2, 3, 4, 5]);
  assert.deepEqual(
    results.map(({ status }) => status),
    ['fulfilled', 'rejected', 'fulfilled', 'rejected', 'fulfilled', 'rejected'],
  );
});
