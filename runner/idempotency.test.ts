import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { Idempotency, type IdempotencyOptions, type Once } from './idempotency.ts';

function played() {
  let over = (): void => {};
  let fail: (error: Error) => void = () => {};
  const ended = new Promise<void>((resolve, reject) => {
    over = resolve;
    fail = reject;
  });
  ended.catch(() => {});
  const value: Once & { bytes: number; sheds: number } = {
    ended,
    bytes: 100,
    sheds: 0,
    shed() {
      value.bytes = 0;
      value.sheds += 1;
    },
  };
  return { value, over, fail };
}

function rig(options: IdempotencyOptions = {}) {
  const clock = { now: 0 };
  const once = new Idempotency<Once>({ now: () => clock.now, keepMs: 1_000, ...options });
  let begun = 0;
  const take = (key: string, subject = 'alice', digest = 'd', tenant = 't') => {
    const one = played();
    const { value, first } = once.take({ issuer: 'i', subject, tenant }, key, digest, () => {
      begun += 1;
      return one.value;
    });
    return { ...one, value, first, made: one.value };
  };
  return { clock, take, begun: () => begun };
}

/** What follows the end of something has happened. */
const settled = () => new Promise((resolve) => setImmediate(resolve));

describe('a key', () => {
  test('stands for one thing until so long after its end, however long that takes', async () => {
    const { clock, take, begun } = rig();
    const first = take('k');
    clock.now = 1_000_000;
    assert.equal(take('k').value, first.value);
    first.over();
    await settled();
    clock.now += 999;
    assert.equal(take('k').value, first.value);
    assert.deepEqual([first.first, take('k').first, begun()], [true, false, 1]);
    clock.now += 1;
    assert.notEqual(take('k').value, first.value);
    assert.equal(first.made.sheds, 1);
  });

  test("is its owner's own", () => {
    const { take, begun } = rig();
    assert.notEqual(take('k', 'alice').value, take('k', 'bob').value);
    assert.equal(begun(), 2);
  });

  test('is refused for anything else, and where it is too long', () => {
    const { take, begun } = rig();
    take('k');
    assert.throws(() => take('k', 'alice', 'other'), { code: 'INVALID_REQUEST' });
    assert.throws(() => take('k'.repeat(129)), { code: 'INVALID_REQUEST' });
    take('k'.repeat(128));
    assert.equal(begun(), 2);
  });

  test('is free again where nothing was begun', async () => {
    const { take } = rig();
    const first = take('k');
    first.fail(new Error('no place'));
    await settled();
    assert.notEqual(take('k').value, first.value);
  });

  test('is never forgotten early: where there is no room for another, that one is refused', async () => {
    const { clock, take } = rig({ keysPerOwner: 2, keys: 3 });
    const first = take('a');
    take('b');
    assert.throws(() => take('c'), { code: 'QUOTA_EXCEEDED' });
    assert.equal(take('a').value, first.value);
    take('a', 'bob');
    assert.throws(() => take('b', 'carol'), { code: 'QUOTA_EXCEEDED' });
    first.over();
    await settled();
    clock.now = 400;
    assert.throws(() => take('c'), { code: 'QUOTA_EXCEEDED', retryAfterMs: 600 });
    clock.now = 1_000;
    take('c');
  });

  test('takes no more places of one tenant than its share, whatever principals it has', () => {
    const { take } = rig({ keysPerTenant: 2, keys: 3 });
    take('k', 'alice', 'd', 'large');
    take('k', 'bob', 'd', 'large');
    assert.throws(() => take('k', 'carol', 'd', 'large'), { code: 'QUOTA_EXCEEDED' });
    take('k', 'dan', 'd', 'small');
  });

  test('keeps its result where somebody else keeps more', async () => {
    const { take } = rig({ bytes: 250 });
    const mine = take('a', 'alice');
    const theirs = ['b', 'c', 'd'].map((key) => take(key, 'bob'));
    for (const one of [mine, ...theirs]) {
      one.over();
      await settled();
    }
    assert.deepEqual(
      [mine, ...theirs].map(({ made }) => made.sheds),
      [0, 1, 1, 0],
    );
  });

  test('lets go of its result, the oldest first, where all together keep too much', async () => {
    const { take } = rig({ bytes: 250 });
    const all = ['a', 'b', 'c', 'd'].map((key) => take(key));
    for (const one of all) {
      one.over();
      await settled();
    }
    assert.deepEqual(
      all.map(({ made }) => made.sheds),
      [1, 1, 0, 0],
    );
    assert.equal(take('a').value, all[0]?.value, 'the key stays');
  });
});
