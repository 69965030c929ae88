import type { Clock } from '#core/clock';
import type { Principal } from '#core/principal';
import { AssertionSigner, type SigningKey } from '#core/tokens';

/** Half of an assertion's life: whoever receives one has at least the other half. */
const CACHE_MS = 30_000;
const PRINCIPALS_MAX = 4_096;

/**
 * The gateway's word for who is calling, signed at most every 30 s for the same principal. The key is everything that the
 * assertion says, so that a caller whose groups changed is never given the old ones.
 */
export function createAssertions(
  key: SigningKey,
  now: Clock = Date.now,
): (principal: Principal) => Promise<string> {
  const signer = new AssertionSigner(key);
  const cache = new Map<string, { jwt: Promise<string>; until: number }>();

  return (principal) => {
    const id = everythingOf(principal);
    const cached = cache.get(id);
    if (cached && now() < cached.until) return cached.jwt;
    const jwt = signer.sign(principal);
    cache.delete(id);
    cache.set(id, { jwt, until: now() + CACHE_MS });
    // A Map keeps the order of insertion: the first key is the oldest assertion.
    const [oldest] = cache.keys();
    if (cache.size > PRINCIPALS_MAX && oldest !== undefined) cache.delete(oldest);
    return jwt;
  };
}

function everythingOf({ issuer, subject, tenant, groups, claims }: Principal): string {
  return JSON.stringify([issuer, subject, tenant, groups, claims]);
}
