import type { Clock } from '#core/clock';

/** Enough for a day of one deletion a second. */
const ENDED_MAX = 100_000;

/**
 * The sessions that were ended through this gateway, until they would have expired, the newest 100 000 of them. Replicas share
 * nothing: what was ended through another one is found out by its server, which no longer knows it.
 */
export class EndedSessions {
  readonly #until = new Map<string, number>();
  readonly #now: Clock;

  constructor(now: Clock = Date.now) {
    this.#now = now;
  }

  add(key: string, expiresAt: number): void {
    this.#until.delete(key);
    this.#until.set(key, expiresAt);
    // In the order of their ends, which is nearly that of their expiries: the first ones go first.
    for (const [old, until] of this.#until) {
      if (until > this.#now() && this.#until.size <= ENDED_MAX) break;
      this.#until.delete(old);
    }
  }

  has(key: string): boolean {
    return this.#until.has(key);
  }
}
