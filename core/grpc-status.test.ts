import assert from 'node:assert/strict';
import { test } from 'node:test';
import { status } from '@grpc/grpc-js';
import { FAILURES } from './errors.ts';
import { resetCode, trailersOnly } from './grpc-status.ts';

for (const name of new Set(Object.values(FAILURES).map(({ grpc }) => grpc)))
  test(`${name} has the number that grpc-js has for it`, () => {
    const head = trailersOnly(name, 'why');
    assert.equal(head[head.indexOf('grpc-status') + 1], String(status[name]));
  });

test('a message goes by as visible ASCII, and nothing of it can end a field', () => {
  const head = trailersOnly('INTERNAL', 'a % of "ü"\r\nx: y', ['x-more', '1']);
  assert.equal(head[head.indexOf('grpc-message') + 1], 'a %25 of "%C3%BC"%0D%0Ax: y');
  assert.deepEqual(head.slice(-2), ['x-more', '1']);
});

test('a reset says denied, too much or given up; all else is a fault', () => {
  assert.deepEqual(
    (['PERMISSION_DENIED', 'RESOURCE_EXHAUSTED', 'CANCELLED', 'UNAVAILABLE'] as const).map(
      resetCode,
    ),
    [12, 11, 8, 2],
  );
});
