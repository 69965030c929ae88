import assert from 'node:assert/strict';
import { test } from 'node:test';
import { OpenList } from './open-list.ts';

test('holds what was added and not deleted, whatever the order of that', () => {
  const list = new OpenList<number>();
  const expected = new Set<number>();
  for (let step = 0; step < 1_000; step++) {
    const item = (step * 7_919) % 101;
    if (expected.has(item)) {
      expected.delete(item);
      list.delete(item);
    } else {
      expected.add(item);
      list.add(item);
    }
    assert.equal(list.size, expected.size);
    assert.deepEqual(
      [...list].toSorted((a, b) => a - b),
      [...expected].toSorted((a, b) => a - b),
    );
  }
});

test('what is not in it can be deleted, and nothing else goes', () => {
  const list = new OpenList<string>();
  list.delete('a');
  list.add('b');
  list.delete('a');
  assert.deepEqual([...list], ['b']);
});

test('whoever walks over it sees each thing once, also where each is deleted on the way', () => {
  const list = new OpenList<number>();
  for (const item of [1, 2, 3, 4]) list.add(item);
  const seen: number[] = [];
  for (const item of list) {
    seen.push(item);
    list.delete(item);
  }
  assert.deepEqual(seen, [1, 2, 3, 4]);
  assert.equal(list.size, 0);
});
