import { readFileSync, statSync } from 'node:fs';
import { OutriderError } from '#core/errors';
import { parseRedisUrl, type RedisAddress } from '#core/redis';

/** Where a Redis is, and what lets us in. */
export interface RedisPlace {
  readonly address: RedisAddress;
  readonly password: string | undefined;
}

/**
 * `redis://[user@]host[:port][/database]`, or `rediss://` with TLS; the password is in a file that only its owner may read.
 * @throws {OutriderError} CONFIG_INVALID
 */
export function redisPlace(text: string, passwordFile: string | undefined): RedisPlace {
  return {
    address: redisAddress(text),
    password: passwordFile === undefined ? undefined : passwordIn(passwordFile),
  };
}

/** @throws {OutriderError} CONFIG_INVALID */
export function redisAddress(text: string): RedisAddress {
  try {
    return parseRedisUrl(text);
  } catch (error) {
    const problem = error instanceof Error ? error.message : '';
    throw new OutriderError(
      'CONFIG_INVALID',
      `gateway.recoveryRedis ${problem} (gateway.recoveryRedisPasswordFile names a password's file)`,
    );
  }
}

function passwordIn(path: string): string {
  const stat = statSync(path, { throwIfNoEntry: false });
  const password = stat && (stat.mode & 0o077) === 0 ? readFileSync(path, 'utf8').trim() : '';
  if (password === '')
    throw new OutriderError(
      'CONFIG_INVALID',
      `gateway.recoveryRedisPasswordFile: ${path} must hold the password and be readable by its owner only: chmod 600 ${path}`,
    );
  return password;
}
