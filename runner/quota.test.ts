import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { Quota } from './quota.ts';

const rig = (capacity = 100, memoryBytes = 0) => {
  const seen: number[] = [];
  return {
    quota: new Quota({ capacity, memoryBytes, onRunning: (running) => seen.push(running) }),
    seen,
  };
};

describe('C13: an owner', () => {
  test('has so many execs at one time: the ninth of eight is told to come back', () => {
    const { quota } = rig();
    const releases = Array.from({ length: 8 }, () => quota.reserve('alice', 8));
    assert.throws(() => quota.reserve('alice', 8), { code: 'QUOTA_EXCEEDED', retryAfterMs: 1_000 });
    quota.reserve('bob', 8);
    releases[0]?.();
    quota.reserve('alice', 8);
  });

  test('has those that other runners run counted, and they take no place here', () => {
    const { quota, seen } = rig(1);
    const release = quota.hold('alice', 2);
    quota.hold('alice', 2);
    assert.throws(() => quota.hold('alice', 2), { code: 'QUOTA_EXCEEDED' });
    assert.throws(() => quota.reserve('alice', 2), { code: 'QUOTA_EXCEEDED' });
    release();
    quota.reserve('alice', 2);
    assert.deepEqual([quota.running, seen], [1, [1]]);
  });
});

test('a full runner says that it is busy, whoever asks', () => {
  const { quota } = rig(2);
  const release = quota.reserve('alice', 8);
  quota.reserve('bob', 8);
  assert.throws(() => quota.reserve('carol', 8), { code: 'RUNNER_BUSY', retryAfterMs: 1_000 });
  release();
  release(); // once
  quota.reserve('carol', 8);
  assert.throws(() => quota.reserve('dave', 8), { code: 'RUNNER_BUSY' });
});

test('C13: the memory of all sandboxes together is bounded where a bound is set', () => {
  const { quota } = rig(100, 1_000);
  const release = quota.memory(600);
  quota.memory(400);
  assert.throws(() => quota.memory(1), { code: 'RUNNER_BUSY', retryAfterMs: 1_000 });
  release();
  release(); // once
  quota.memory(600);
  assert.throws(() => quota.memory(1), { code: 'RUNNER_BUSY' });
  assert.throws(() => quota.memory(1_001), { code: 'BACKEND_UNAVAILABLE' }, 'waiting is no use');
  rig().quota.memory(2 ** 50);
});
