import { setTimeout as sleep } from 'node:timers/promises';
import {
  type CryptoKey,
  createLocalJWKSet,
  errors,
  type FlattenedJWSInput,
  type JSONWebKeySet,
  type JWSHeaderParameters,
} from 'jose';
import type { Logger } from './log.ts';

/** What keeps the keys of one issuer. */
export interface IssuerKeys {
  /**
   * The key that a token's header names.
   * @throws {errors.JWKSNoMatchingKey} for one that the issuer does not have; {KeysUnavailable} where that cannot be known now
   */
  readonly get: (header: JWSHeaderParameters, token: FlattenedJWSInput) => Promise<CryptoKey>;
  /**
   * Undefined while its keys can be fetched and tokens verified, otherwise what a person should know, within half a second. Asking fetches
   * them where that was not done lately, or failed: who stops traffic for a problem would otherwise keep it from ever ending.
   */
  readonly problem: () => Promise<string | undefined>;
}

export class KeysUnavailable extends Error {}

export interface IssuerKeysOptions {
  readonly issuer: string;
  readonly fetch: () => Promise<JSONWebKeySet>;
  /** The least time between two fetches, whatever tokens name. */
  readonly cooldownMs: number;
  /** How long keys are good while they cannot be fetched again. */
  readonly maxAgeMs: number;
  readonly log: Logger;
  /** Milliseconds of a clock that only goes forward. */
  readonly now?: () => number;
}

/** Keys are fetched again so often, which is how soon one that was taken away is refused. */
const REFRESH_MS = 10 * 60_000;
/** What `problem` waits for a fetch: less than any probe does. */
const PROBLEM_WAIT_MS = 500;

interface Keys {
  readonly find: ReturnType<typeof createLocalJWKSet>;
  readonly fetchedAt: number;
}

/**
 * Keys are fetched when they are first needed, every 10 minutes, and for a key that is not known; all callers wait for one fetch, and
 * there is none within the cool-down of the last, whether that succeeded or not. While the issuer is away, or sends what is no key set,
 * known keys go on working for `maxAgeMs`, and nothing else does; `problem` says so all the while.
 */
export function createIssuerKeys(options: IssuerKeysOptions): IssuerKeys {
  const { issuer, cooldownMs, maxAgeMs, log, now = () => performance.now() } = options;
  let keys: Keys | undefined;
  let attemptedAt = Number.NEGATIVE_INFINITY;
  let fetching: Promise<void> | undefined;
  let failure = 'not fetched yet';

  const load = async (): Promise<void> => {
    try {
      const found = await options.fetch();
      keys = { find: createLocalJWKSet(found), fetchedAt: now() };
      failure = '';
    } catch (error) {
      failure = 'its keys cannot be fetched';
      log.warn('the keys of an issuer cannot be fetched', { error, detail: { issuer } });
    }
  };

  /** Joins a fetch that is under way, or begins one where the cool-down is over; undefined otherwise. Never rejects. */
  const refresh = (): Promise<void> | undefined => {
    if (fetching) return fetching;
    if (now() - attemptedAt < cooldownMs) return undefined;
    attemptedAt = now();
    fetching = load().finally(() => {
      fetching = undefined;
    });
    return fetching;
  };

  const usable = (): Keys | undefined =>
    keys && now() - keys.fetchedAt < maxAgeMs ? keys : undefined;

  return {
    async get(header: JWSHeaderParameters, token: FlattenedJWSInput) {
      if (!usable()) await refresh();
      const known = usable();
      if (!known) throw new KeysUnavailable(failure);
      if (now() - known.fetchedAt >= REFRESH_MS) void refresh();
      try {
        return await known.find(header, token);
      } catch (error) {
        if (!(error instanceof errors.JWKSNoMatchingKey)) throw error;
        await refresh();
        const newer = usable();
        if (newer && newer !== known) return newer.find(header, token);
        // Nobody can tell whether the issuer has it now.
        if (failure !== '') throw new KeysUnavailable(failure);
        throw error;
      }
    },
    async problem() {
      const isRecent = keys !== undefined && now() - keys.fetchedAt < 2 * cooldownMs;
      if (failure !== '' || !isRecent)
        await Promise.race([refresh(), sleep(PROBLEM_WAIT_MS, undefined, { ref: false })]);
      const known = usable();
      if (!known) return failure === '' ? 'its keys are too old' : failure;
      const leftS = Math.ceil((known.fetchedAt + maxAgeMs - now()) / 1_000);
      return failure === '' ? undefined : `${failure}; those known are good for ${leftS} s more`;
    },
  };
}
