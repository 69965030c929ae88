import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { temporaryDirectory } from '../../testing.ts';
import { redisPlace } from './redis-place.ts';

test('the password is in a file of its own', (t) => {
  const file = join(temporaryDirectory(t), 'password');
  writeFileSync(file, 'hunter2\n', { mode: 0o600 });
  assert.equal(redisPlace('redis://cache', undefined).password, undefined);
  const { address, password } = redisPlace('rediss://me@[::1]:7000/3', file);
  assert.deepEqual(
    [address, password],
    [{ host: '::1', port: 7_000, tls: true, database: 3, username: 'me' }, 'hunter2'],
  );
});

for (const [text, names] of [
  ['http://cache', /gateway\.recoveryRedis must be/],
  ['cache:6379', /gateway\.recoveryRedis must be/],
  ['redis://cache/one', /gateway\.recoveryRedis must be/],
  ['redis://:hunter2@cache', /gateway\.recoveryRedisPasswordFile/],
] as const)
  test(`${text} is refused with what to change, without the password`, () => {
    assert.throws(
      () => redisPlace(text, undefined),
      (error: unknown) => {
        const { code, message } = Object(error);
        assert.equal(code, 'CONFIG_INVALID');
        assert.match(message, names);
        assert.doesNotMatch(message, /hunter2/);
        return true;
      },
    );
  });

test('a password that others may read, or none, is refused', (t) => {
  const file = join(temporaryDirectory(t), 'password');
  writeFileSync(file, 'hunter2', { mode: 0o644 });
  for (const path of [file, `${file}-absent`])
    assert.throws(() => redisPlace('redis://cache', path), { code: 'CONFIG_INVALID' });
});
