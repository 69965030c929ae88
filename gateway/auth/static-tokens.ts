import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { OutriderError } from '#core/errors';
import { isRecord } from '#core/is-record';
import type { Principal } from '#core/principal';
import type { TokenVerdict } from './token-claims.ts';

/** The issuer that Roles know those principals by. */
const STATIC_ISSUER = 'outrider:static';

interface StaticToken {
  readonly principal: Principal;
  /** Milliseconds since 1970; the end of the day that the file names, in UTC. */
  readonly expiresAt: number;
}

/**
 * Tokens for machines that no identity provider knows, as SHA-256 of each: whoever reads the file can use none of them. A token
 * must be random, since a digest of a word can be found; `openssl rand -base64 32 | tee token | tr -d '\n' | sha256sum` makes
 * one. Undefined for a token that is not in the file.
 * @throws {OutriderError} CONFIG_INVALID
 */
export function readStaticTokens(path: string): (token: string) => TokenVerdict | undefined {
  const tokens = new Map(entriesOf(path).map((entry) => tokenOf(entry, path)));
  return (token) => {
    const found = tokens.get(createHash('sha256').update(token).digest('hex'));
    if (!found) return undefined;
    return Date.now() < found.expiresAt
      ? { ok: true, principal: found.principal }
      : { ok: false, reason: 'expired', scopes: [] };
  };
}

function entriesOf(path: string): readonly unknown[] {
  try {
    const parsed: unknown = JSON.parse(readFileSync(path, 'utf8'));
    const tokens: unknown = isRecord(parsed) ? parsed['tokens'] : undefined;
    return Array.isArray(tokens) ? tokens : [undefined];
  } catch (error) {
    throw new OutriderError('CONFIG_INVALID', `gateway.staticTokens: ${path} cannot be read`, {
      cause: error,
    });
  }
}

const KEYS = new Set(['sha256', 'subject', 'tenant', 'groups', 'expires']);

function tokenOf(entry: unknown, path: string): [string, StaticToken] {
  if (isRecord(entry) && Object.keys(entry).every((key) => KEYS.has(key))) {
    const { sha256, subject, tenant = '', groups = [], expires } = entry;
    const expiresAt = expires === undefined ? Number.POSITIVE_INFINITY : endOfDay(expires);
    if (
      typeof sha256 === 'string' &&
      /^[\da-f]{64}$/.test(sha256) &&
      typeof subject === 'string' &&
      subject !== '' &&
      typeof tenant === 'string' &&
      isTexts(groups) &&
      !Number.isNaN(expiresAt)
    )
      return [
        sha256,
        { principal: { issuer: STATIC_ISSUER, subject, tenant, groups, claims: {} }, expiresAt },
      ];
  }
  throw new OutriderError(
    'CONFIG_INVALID',
    `gateway.staticTokens: ${path} must be {"tokens": [{"sha256": "<64 lower-case hex digits>", "subject": "<name>"}]}; tenant, groups and expires ("2027-06-30") are optional`,
  );
}

function endOfDay(text: unknown): number {
  return typeof text === 'string' && /^\d{4}-\d\d-\d\d$/.test(text)
    ? Date.parse(`${text}T00:00:00Z`) + 86_400_000
    : Number.NaN;
}

function isTexts(value: unknown): value is string[] {
  return Array.isArray(value) && value.every((item) => typeof item === 'string');
}
