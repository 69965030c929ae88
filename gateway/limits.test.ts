import assert from 'node:assert/strict';
import { test } from 'node:test';
import { LOCAL_PRINCIPAL } from '#core/principal';
import { createLimits } from './limits.ts';

const OTHER = { ...LOCAL_PRINCIPAL, subject: 'other' };

test('a principal has so many requests at once, whatever its tokens say besides', () => {
  const enter = createLimits({ perMinute: 0, concurrent: 2 });
  const leave = enter(LOCAL_PRINCIPAL);
  enter({ ...LOCAL_PRINCIPAL, groups: ['another session'] });
  assert.throws(() => enter(LOCAL_PRINCIPAL), { code: 'QUOTA_EXCEEDED', retryAfterMs: 1_000 });
  assert.doesNotThrow(() => enter(OTHER));
  leave();
  leave();
  enter(LOCAL_PRINCIPAL);
  assert.throws(
    () => enter(LOCAL_PRINCIPAL),
    { code: 'QUOTA_EXCEEDED' },
    'a place is given back once',
  );
});

test('a rate allows its minute at once, then one by one, and says when', () => {
  let now = 0;
  const enter = createLimits({ perMinute: 60, concurrent: 0 }, () => now);
  const sent = () => {
    let count = 0;
    try {
      for (; count < 1_000; count++) enter(LOCAL_PRINCIPAL);
    } catch (error) {
      assert.equal(Object(error).code, 'RATE_LIMITED');
      assert.equal(Object(error).retryAfterMs, 1_000);
    }
    return count;
  };
  assert.equal(sent(), 60);
  assert.doesNotThrow(() => enter(OTHER));
  now += 1_000;
  assert.equal(sent(), 1);
  now += 600_000;
  assert.equal(sent(), 60, 'what was not used is not saved up');
});

test('a rate of one in a minute lets one through', () => {
  const enter = createLimits({ perMinute: 1, concurrent: 0 }, () => 0);
  enter(LOCAL_PRINCIPAL);
  assert.throws(() => enter(LOCAL_PRINCIPAL), { code: 'RATE_LIMITED', retryAfterMs: 60_000 });
});

test('0 is any number', () => {
  const enter = createLimits({ perMinute: 0, concurrent: 0 });
  for (let n = 0; n < 10_000; n++) enter(LOCAL_PRINCIPAL);
});
