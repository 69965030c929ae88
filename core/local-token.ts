import { hash, timingSafeEqual } from 'node:crypto';
import { readFileSync, statSync } from 'node:fs';
import { OutriderError } from './errors.ts';

/** Shorter ones can be guessed. */
const TOKEN_MIN_CHARACTERS = 32;

/**
 * Whether a token is the local one. Digests are compared, in constant time: neither the length nor a common beginning shows.
 * Undefined where the file does not exist.
 * @throws {OutriderError} CONFIG_INVALID where others may read the file or it holds no usable token
 */
export function readLocalToken(path: string): ((token: string) => boolean) | undefined {
  const stat = statSync(path, { throwIfNoEntry: false });
  if (stat === undefined) return undefined;
  if ((stat.mode & 0o077) !== 0)
    throw new OutriderError(
      'CONFIG_INVALID',
      `the local token ${path} can be read by others: chmod 600 ${path}`,
    );
  const token = readFileSync(path, 'utf8').trim();
  if (!/^[\x21-\x7e]+$/.test(token) || token.length < TOKEN_MIN_CHARACTERS)
    throw new OutriderError(
      'CONFIG_INVALID',
      `the local token ${path} must be one line of at least ${TOKEN_MIN_CHARACTERS} visible characters`,
    );
  const expected = sha256(token);
  return (presented) => timingSafeEqual(sha256(presented), expected);
}

function sha256(text: string): Buffer {
  return hash('sha256', text, 'buffer');
}
