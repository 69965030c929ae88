import assert from 'node:assert/strict';
import { test } from 'node:test';
import { boundsOf } from './exec-ask.ts';

const bounds = (timeoutMs: number) =>
  boundsOf(
    { timeoutMs, outputBytes: 0 },
    { timeoutDefaultMs: 30_000, timeoutMaxMs: 60_000, outputBytes: 1_024 },
  );

test('a time limit that is too long is told with its unit: a caller in seconds would take 60000 for the limit', () => {
  assert.throws(() => bounds(600_000), {
    code: 'INVALID_REQUEST',
    message: 'timeout 10m is more than the 1m that is allowed here',
  });
  assert.throws(() => bounds(60_001), { message: /^timeout 60001ms is more than the 1m / });
});

test('control: one that the role allows is taken, and none is the role’s own', () => {
  assert.deepEqual(bounds(60_000), { timeoutMs: 60_000, outputBytes: 1_024 });
  assert.deepEqual(bounds(0), { timeoutMs: 30_000, outputBytes: 1_024 });
});
