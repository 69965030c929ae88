import type { Clock } from '#core/clock';
import { OutriderError } from '#core/errors';
import { type Principal, principalKey } from '#core/principal';

/** What one principal may have; 0 is any number. */
export interface PrincipalLimits {
  readonly perMinute: number;
  readonly concurrent: number;
}

interface Use {
  /** Requests that may be sent now; refilled with time, up to a minute's. */
  tokens: number;
  filledAt: number;
  running: number;
}

const PRINCIPALS_MAX = 100_000;
const MINUTE_MS = 60_000;
/** How long to wait where only the end of another request makes room. */
const BUSY_RETRY_MS = 1_000;

/**
 * Bounds what each principal sends through this gateway, whatever number of sessions and tokens it has. Returns what gives
 * the place back. Who has not sent for a minute may send a whole minute's at once; what is used comes back evenly, a minute's in a minute.
 */
export function createLimits(
  { perMinute, concurrent }: PrincipalLimits,
  now: Clock = Date.now,
): (principal: Principal) => () => void {
  if (perMinute === 0 && concurrent === 0) return () => () => {};
  const uses = new Map<string, Use>();

  /** @throws {OutriderError} RATE_LIMITED | QUOTA_EXCEEDED, with the time after which to try again */
  return (principal) => {
    const key = principalKey(principal);
    const use = uses.get(key) ?? { tokens: perMinute, filledAt: now(), running: 0 };
    uses.delete(key);
    uses.set(key, use);
    forgetOldest(uses);
    if (concurrent > 0 && use.running >= concurrent)
      throw new OutriderError('QUOTA_EXCEEDED', 'too many requests of yours are running', {
        retryAfterMs: BUSY_RETRY_MS,
      });
    if (perMinute > 0) {
      const at = now();
      use.tokens = Math.min(perMinute, use.tokens + ((at - use.filledAt) * perMinute) / MINUTE_MS);
      use.filledAt = at;
      if (use.tokens < 1)
        throw new OutriderError('RATE_LIMITED', 'too many requests in a minute', {
          retryAfterMs: Math.ceil(((1 - use.tokens) * MINUTE_MS) / perMinute),
        });
      use.tokens -= 1;
    }
    use.running += 1;
    let over = false;
    return () => {
      if (!over) use.running -= 1;
      over = true;
    };
  };
}

/** Principals come from tokens: more than can be held are not remembered, those that run something excepted. */
function forgetOldest(uses: Map<string, Use>): void {
  if (uses.size <= PRINCIPALS_MAX) return;
  for (const [key, { running }] of uses) {
    if (running > 0) continue;
    uses.delete(key);
    return;
  }
}
