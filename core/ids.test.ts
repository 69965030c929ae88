import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isRequestId, newId, requestIdFrom } from './ids.ts';

test('an id is its prefix and 26 letters of base 32, and no two are the same', () => {
  const ids = Array.from({ length: 2_000 }, () => newId('exec'));
  for (const id of ids) assert.match(id, /^exec-[a-z2-7]{26}$/);
  assert.equal(new Set(ids).size, ids.length);
});

test('128 random bits: every one of the letters varies, the last over its two values per bit', () => {
  const columns = Array.from({ length: 26 }, () => new Set<string>());
  for (let count = 0; count < 2_000; count++)
    for (const [at, letter] of newId('w').slice(2).split('').entries()) columns[at]?.add(letter);
  assert.deepEqual(
    columns.map((letters) => letters.size),
    [...Array.from({ length: 25 }, () => 32), 8],
  );
});

test("a caller's request id is taken where logs and headers can hold it, otherwise one is made", () => {
  for (const good of ['a', 'x'.repeat(128), '0af7651916cd43dd8448eb211c80319c', '!~'])
    assert.equal(requestIdFrom(good), good);
  for (const bad of ['', 'x'.repeat(129), 'a b', 'a\n', 'é', '\x7f', 5, undefined, ['a']]) {
    assert.equal(isRequestId(bad), false);
    assert.match(requestIdFrom(bad), /^req-[a-z2-7]{26}$/);
  }
});
