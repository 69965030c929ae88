import assert from 'node:assert/strict';
import { test } from 'node:test';
import { rendezvous } from './rendezvous.ts';

const ids = ['a', 'b', 'c'];
const keys = Array.from({ length: 3_000 }, (_, at) => `key ${at}`);

test('each id has its share of the keys', () => {
  const counts = new Map<string | undefined, number>();
  for (const key of keys) {
    const [first] = rendezvous(key, ids);
    counts.set(first, (counts.get(first) ?? 0) + 1);
  }
  for (const id of ids)
    assert.ok(Math.abs((counts.get(id) ?? 0) - 1_000) < 150, `${id}: ${counts.get(id)}`);
});

test('the order is the same wherever it is asked, and the order of the ids is no difference', () => {
  for (const key of keys.slice(0, 100))
    assert.deepEqual(rendezvous(key, ids), rendezvous(key, ids.toReversed()));
});

test('when one is gone only its own keys move, to the one that came next', () => {
  for (const key of keys.slice(0, 300)) {
    const before = rendezvous(key, ids);
    assert.deepEqual(
      rendezvous(key, ['a', 'c']),
      before.filter((id) => id !== 'b'),
    );
  }
});
