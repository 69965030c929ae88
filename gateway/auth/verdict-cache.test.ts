import assert from 'node:assert/strict';
import { test } from 'node:test';
import { LOCAL_PRINCIPAL } from '#core/principal';
import { VerdictCache } from './verdict-cache.ts';

test('a verified token is known for 5 s, and never past its end', () => {
  let now = 0;
  const cache = new VerdictCache(() => now);
  cache.set('long', LOCAL_PRINCIPAL, 60_000);
  cache.set('short', LOCAL_PRINCIPAL, 1_000);
  now = 999;
  assert.equal(cache.get('short'), LOCAL_PRINCIPAL);
  now = 1_000;
  assert.equal(cache.get('short'), undefined);
  now = 4_999;
  assert.equal(cache.get('long'), LOCAL_PRINCIPAL);
  now = 5_000;
  assert.equal(cache.get('long'), undefined);
});

test('only the text that was verified is known, and not more than 4096 of them', () => {
  const cache = new VerdictCache(() => 0);
  cache.set('token', LOCAL_PRINCIPAL, 1_000);
  assert.equal(cache.get('token='), undefined);
  for (let n = 0; n < 4_096; n++) cache.set(`other-${n}`, LOCAL_PRINCIPAL, 1_000);
  assert.equal(cache.get('token'), undefined);
  assert.equal(cache.get('other-0'), LOCAL_PRINCIPAL);
});
