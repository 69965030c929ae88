import assert from 'node:assert/strict';
import { test } from 'node:test';
import { CancelKeys } from './cancel-keys.ts';

const running = () => new AbortController().signal;

test('a key cancels the calls that its owner made under it, and no call that has none', () => {
  const keys = new CancelKeys();
  const mine = [keys.enter('alice', 'k', running()), keys.enter('alice', 'k', running())];
  const others = [
    keys.enter('bob', 'k', running()),
    keys.enter('alice', 'l', running()),
    keys.enter('alice', '', running()),
  ];
  keys.cancel('alice', 'k');
  for (const { aborted, reason } of mine)
    assert.deepEqual([aborted, Object(reason).code], [true, 'CANCELLED']);
  assert.ok(others.every(({ aborted }) => !aborted));
  keys.cancel('alice', '');
  assert.ok(others.every(({ aborted }) => !aborted));
});

test('a call that is over is forgotten, and another under its key is not', () => {
  const keys = new CancelKeys();
  const over = new AbortController();
  const first = keys.enter('alice', 'k', over.signal);
  const second = keys.enter('alice', 'k', running());
  over.abort('it ended');
  keys.cancel('alice', 'k');
  assert.equal(first.reason, 'it ended');
  assert.ok(second.aborted);
  const third = keys.enter('alice', 'k', running());
  keys.cancel('alice', 'k');
  assert.ok(third.aborted);
});

test('a key has at most 128 characters', () => {
  const enter = (length: number) => new CancelKeys().enter('a', 'k'.repeat(length), running());
  assert.throws(() => enter(129), { code: 'INVALID_REQUEST' });
  assert.equal(enter(128).aborted, false);
});
