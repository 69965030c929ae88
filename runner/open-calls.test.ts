import assert from 'node:assert/strict';
import { test } from 'node:test';
import { OpenCalls } from './open-calls.ts';

test('an owner has so many calls open, whoever else has how many, until they are over', () => {
  const calls = new OpenCalls(2);
  const enter = (owner: string) => {
    const over = new AbortController();
    calls.enter(owner, over.signal);
    return () => over.abort();
  };
  const first = enter('alice');
  enter('alice');
  assert.throws(() => enter('alice'), { code: 'QUOTA_EXCEEDED', retryAfterMs: 1_000 });
  enter('bob');
  first();
  enter('alice');
  assert.throws(() => enter('alice'), { code: 'QUOTA_EXCEEDED' });
});

test('a call that is over before it begins counts for nothing', () => {
  const calls = new OpenCalls(1);
  calls.enter('alice', AbortSignal.abort());
  calls.enter('alice', new AbortController().signal);
  assert.throws(() => calls.enter('alice', new AbortController().signal), {
    code: 'QUOTA_EXCEEDED',
  });
});
