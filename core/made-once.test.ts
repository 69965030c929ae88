import assert from 'node:assert/strict';
import test from 'node:test';
import { madeOnce } from './made-once.ts';

test('of a frozen list a thing is made once, of one that may change each time', () => {
  const joined = madeOnce((list) => ({ text: list.join(' ') }));
  const frozen = Object.freeze(['a', 'b']);
  assert.equal(joined(frozen), joined(frozen));
  assert.deepEqual(joined(frozen), { text: 'a b' });
  const open = ['a', 'b'];
  assert.deepEqual(joined(open), { text: 'a b' });
  open[1] = 'c';
  assert.deepEqual(joined(open), { text: 'a c' });
});

test('equal lists are two lists', () => {
  const made = madeOnce((list) => [...list]);
  const [one, other] = [Object.freeze(['x']), Object.freeze(['x'])];
  assert.notEqual(made(one), made(other));
  assert.deepEqual(made(one), made(other));
});
