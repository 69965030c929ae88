import assert from 'node:assert/strict';
import { test } from 'node:test';
import { causeChain, FAILURES, OutriderError, publicError, toOutriderError } from './errors.ts';

test('every code has an HTTP status of failure, a gRPC status, an exit code and a help text', () => {
  for (const [code, { http, grpc, help, exit }] of Object.entries(FAILURES)) {
    assert.match(code, /^[A-Z][A-Z_]+$/);
    assert.ok(http >= 400 && http < 600, code);
    assert.match(grpc, /^[A-Z_]+$/);
    assert.equal(exit, code === 'ERR_OAUTH_PROVIDER' ? 2 : 1, code);
    assert.match(help, /^[A-Z`/].*\.$/s, code);
  }
});

test('an error of ours stays what it is; any other value becomes INTERNAL and keeps itself as cause', () => {
  const ours = new OutriderError('NOT_FOUND', 'not here');
  assert.equal(toOutriderError(ours), ours);
  for (const thrown of [new Error('secret'), 'secret', undefined, null, 5]) {
    const error = toOutriderError(thrown);
    assert.equal(error.code, 'INTERNAL');
    assert.equal(error.message, 'internal error');
    assert.equal(error.cause, thrown);
  }
});

test('the public form has code, message and the time to wait, and never the cause', () => {
  const error = new OutriderError('RATE_LIMITED', 'slow down', {
    cause: new Error('secret of 10.0.0.1'),
    retryAfterMs: 1_500,
  });
  assert.deepEqual(publicError(error), {
    error: { code: 'RATE_LIMITED', message: 'slow down', retryAfterMs: 1_500 },
  });
  assert.deepEqual(publicError(new OutriderError('NOT_FOUND', 'x')), {
    error: { code: 'NOT_FOUND', message: 'x' },
  });
});

test('the chain of causes is text, bounded, and can be made of anything', () => {
  const inner = new TypeError('bad');
  const outer = new OutriderError('INTERNAL', 'internal error', { cause: inner });
  assert.deepEqual(causeChain(outer), ['OutriderError: internal error', 'TypeError: bad']);
  assert.deepEqual(causeChain(new Error('x', { cause: { rule: 'r' } })), [
    'Error: x',
    '{"rule":"r"}',
  ]);
  const endless = new Error('round');
  endless.cause = endless;
  assert.equal(causeChain(endless).length, 8);
  const circle: Record<string, unknown> = {};
  circle['self'] = circle;
  for (const cause of [circle, 5n, () => 1, Symbol('s'), null]) {
    const chain = causeChain(new Error('x', { cause }));
    assert.equal(chain.length, 2);
    assert.equal(typeof chain[1], 'string');
  }
});
