import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { OutriderError } from '#core/errors';
import { errorOf, parseAsk, problemOf } from './protocol.ts';

const LIMITS = { memoryBytes: 1, cpuMillis: 1, pids: 1, diskBytes: 1 };
const START = {
  id: 1,
  verb: 'start',
  sandboxId: 'sbx-a',
  backend: 'docker',
  image: '',
  limits: LIMITS,
};

describe('the launcher understands', () => {
  const cases: readonly unknown[] = [
    { id: 1, verb: 'probe', backend: 'bubblewrap' },
    { id: 2, verb: 'place', sandboxId: 'sbx-1' },
    START,
    { ...START, image: 'registry.test:5000/a/b@sha256:00' },
    { id: 3, verb: 'settle', sandboxId: 'x' },
    { id: 3, verb: 'kill', sandboxId: 'x' },
    { id: 4, verb: 'counters', sandboxId: 'x' },
    { id: 5, verb: 'forget', sandboxId: 'x' },
    { id: 6, verb: 'policySignature' },
    { id: 7, verb: 'readPolicies' },
    { id: 8, verb: 'policyPage', page: 0 },
  ];
  for (const ask of cases)
    test(JSON.stringify(ask), () => assert.deepEqual(parseAsk(JSON.stringify(ask)), ask));
});

describe('the launcher refuses', () => {
  const cases: readonly (readonly [string, unknown])[] = [
    ['another verb', { id: 1, verb: 'run', sandboxId: 'x' }],
    ['a verb of the prototype', { id: 1, verb: 'constructor', sandboxId: 'x' }],
    ['no number', { verb: 'kill', sandboxId: 'x' }],
    ['a path for an id', { id: 1, verb: 'place', sandboxId: '../etc' }],
    ['a long id', { id: 1, verb: 'place', sandboxId: 'x'.repeat(65) }],
    ['an empty id', { id: 1, verb: 'place', sandboxId: '' }],
    ['a field that it does not know', { id: 1, verb: 'place', sandboxId: 'x', directory: '/etc' }],
    ['a user', { ...START, identity: { uid: 0, gid: 0 } }],
    ['another backend', { ...START, backend: 'host' }],
    ['an image that is an option', { ...START, image: '--privileged' }],
    ['an image with a space', { ...START, image: 'a b' }],
    ['no limit', { ...START, limits: {} }],
    ['a limit of zero', { ...START, limits: { ...LIMITS, pids: 0 } }],
    ['a limit that is none', { ...START, limits: { ...LIMITS, memoryBytes: -1 } }],
    ['a limit that is text', { ...START, limits: { ...LIMITS, memoryBytes: '1' } }],
    ['a further limit', { ...START, limits: { ...LIMITS, more: 1 } }],
    ['a directory of policies', { id: 1, verb: 'readPolicies', directory: '/etc' }],
    ['a page before the first', { id: 1, verb: 'policyPage', page: -1 }],
    ['a page that is a name', { id: 1, verb: 'policyPage', page: '../etc/shadow' }],
    ['half a page', { id: 1, verb: 'policyPage', page: 0.5 }],
    ['a list', [1]],
    ['nothing', null],
  ];
  for (const [what, ask] of cases)
    test(what, () => {
      assert.throws(() => parseAsk(JSON.stringify(ask)), { code: 'INVALID_REQUEST' });
    });
  test('what is no JSON', () => {
    assert.throws(() => parseAsk('{'), { code: 'INVALID_REQUEST' });
  });
});

test('a failure arrives as it was, and an unknown code as INTERNAL', () => {
  const sent = new OutriderError('QUOTA_EXCEEDED', 'full', {
    cause: new Error('why'),
    retryAfterMs: 7,
  });
  const got = errorOf(problemOf(sent));
  assert.deepEqual(
    [got.code, got.message, got.retryAfterMs, got.cause instanceof Error && got.cause.message],
    ['QUOTA_EXCEEDED', 'full', 7, 'why'],
  );
  assert.equal(errorOf({ code: 'NO_SUCH', message: '', cause: '' }).code, 'INTERNAL');
});
