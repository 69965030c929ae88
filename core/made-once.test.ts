import assert from 'node:assert/strict';
import test from 'node:test';
import { madeOnce } from './made-once.ts';

test('of a frozen list or record a thing is made once, of one that may change each time', () => {
  const joined = madeOnce((list: readonly string[]) => ({ text: list.join(' ') }));
  const frozen = Object.freeze(['a', 'b']);
  assert.equal(joined(frozen), joined(frozen));
  assert.deepEqual(joined(frozen), { text: 'a b' });
  const open = ['a', 'b'];
  assert.deepEqual(joined(open), { text: 'a b' });
  open[1] = 'c';
  assert.deepEqual(joined(open), { text: 'a c' });
  const keys = madeOnce((record: object) => Object.keys(record));
  const record = Object.freeze({ a: 1 });
  assert.equal(keys(record), keys(record));
});

test('equal lists are two lists', () => {
  const made = madeOnce((list: readonly string[]) => [...list]);
  const [one, other] = [Object.freeze(['x']), Object.freeze(['x'])];
  assert.notEqual(made(one), made(other));
  assert.deepEqual(made(one), made(other));
});
