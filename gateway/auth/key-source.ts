import { readFileSync, statSync } from 'node:fs';
import { resolve } from 'node:path';
import {
  createLocalJWKSet,
  createRemoteJWKSet,
  type JSONWebKeySet,
  type JWTVerifyGetKey,
} from 'jose';
import { isLoopback } from '#core/address';
import { OutriderError } from '#core/errors';
import type { Logger } from '#core/log';
import type { IssuerConfig } from '../config.ts';

const FETCH_TIMEOUT_MS = 5_000;
const CACHE_MAX_AGE_MS = 10 * 60_000;
const FILE_CHECK_MS = 1_000;

/**
 * The public keys of an issuer, kept and found again when it rotates them: from a URL whenever a token names an unknown key
 * (at most once per `jwksCooldown`) and every 10 minutes, from a file whenever the file has changed.
 * @throws {OutriderError} CONFIG_INVALID
 */
export function createKeySource(
  { issuer, jwks, jwksCooldown }: Pick<IssuerConfig, 'issuer' | 'jwks' | 'jwksCooldown'>,
  log: Logger,
): JWTVerifyGetKey {
  if (!URL.canParse(jwks)) return fileKeys(resolve(jwks), log);
  const url = new URL(jwks);
  const host = url.hostname.replace(/^\[|\]$/g, '');
  const plainAllowed = isLoopback({ kind: 'tcp', host, port: 0 });
  if (url.protocol !== 'https:' && !(url.protocol === 'http:' && plainAllowed))
    throw new OutriderError(
      'CONFIG_INVALID',
      `the keys of ${issuer} must come over https: whoever alters them on the way is everybody`,
    );
  return createRemoteJWKSet(url, {
    timeoutDuration: FETCH_TIMEOUT_MS,
    cacheMaxAge: CACHE_MAX_AGE_MS,
    cooldownDuration: jwksCooldown,
  });
}

/** A file that turns unreadable keeps its last keys, and the log says so. */
function fileKeys(path: string, log: Logger): JWTVerifyGetKey {
  let version = versionOf(path);
  let keys = readKeys(path);
  let checked = Date.now();
  return (header, token) => {
    if (Date.now() - checked >= FILE_CHECK_MS) {
      checked = Date.now();
      try {
        const found = versionOf(path);
        if (found !== version) keys = readKeys(path);
        version = found;
      } catch (error) {
        log.warn('the keys of an issuer cannot be read again; the old ones stay', { error });
      }
    }
    return keys(header, token);
  };
}

function versionOf(path: string): string {
  const stat = statSync(path, { bigint: true, throwIfNoEntry: false });
  return stat ? `${stat.ino}.${stat.size}.${stat.mtimeNs}` : 'absent';
}

function readKeys(path: string): JWTVerifyGetKey {
  try {
    const parsed: unknown = JSON.parse(readFileSync(path, 'utf8'));
    // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- createLocalJWKSet checks the shape itself and throws
    return createLocalJWKSet(parsed as JSONWebKeySet);
  } catch (error) {
    throw new OutriderError('CONFIG_INVALID', `${path} is not a JSON Web Key Set`, {
      cause: error,
    });
  }
}
