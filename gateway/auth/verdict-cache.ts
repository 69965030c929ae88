import type { Clock } from '#core/clock';
import type { Principal } from '#core/principal';

/** Checking a signature costs more than the rest of a call; a client sends the same token with each. */
const CACHE_MS = 5_000;
const CACHE_MAX = 4_096;
/** Tokens are kept as they are: longer ones than anybody sends are not. */
const TOKEN_MAX_CHARACTERS = 4_096;

/**
 * Whom verified tokens stand for, for 5 s and never past their end. The key is the whole text: another spelling of a token is not
 * found and is verified itself. So a key that an issuer withdraws is good for at most 5 s more than without.
 */
export class VerdictCache {
  readonly #now: Clock;
  readonly #known = new Map<string, { readonly principal: Principal; readonly until: number }>();

  constructor(now: Clock = Date.now) {
    this.#now = now;
  }

  get(token: string): Principal | undefined {
    const found = this.#known.get(token);
    return found && this.#now() < found.until ? found.principal : undefined;
  }

  /** `expiresAt` in milliseconds since 1970. */
  set(token: string, principal: Principal, expiresAt: number): void {
    if (token.length > TOKEN_MAX_CHARACTERS) return;
    this.#known.delete(token);
    this.#known.set(token, { principal, until: Math.min(this.#now() + CACHE_MS, expiresAt) });
    const [oldest] = this.#known.keys();
    if (this.#known.size > CACHE_MAX && oldest !== undefined) this.#known.delete(oldest);
  }
}
