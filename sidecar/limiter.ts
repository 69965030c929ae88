import type { Limits } from '#policies';
import { Refused } from './refusal.ts';

interface RuleState {
  /** The theoretical arrival time of GCRA: when the next request would be exactly on time. */
  dueMs: number;
  running: number;
}

/**
 * The rate and concurrency limits of the rules, for one sandbox: its execs share them, its neighbours do not. The proxy counts
 * over all sandboxes. Times are of a monotonic clock.
 */
export class Limiter {
  readonly #rules = new Map<string, RuleState>();

  /**
   * Takes a place for one request of a rule; call what is returned when the request has ended.
   * @throws {Refused} rate_limited, with the time to wait; concurrency_limited
   */
  take(policy: string, rule: string, limits: Limits, nowMs: number): () => void {
    if (limits.rate === undefined && limits.concurrent === undefined) return () => {};
    const key = `${policy}/${rule}`;
    const state = this.#rules.get(key) ?? { dueMs: nowMs, running: 0 };
    this.#rules.set(key, state);
    if (limits.concurrent !== undefined && state.running >= limits.concurrent)
      throw new Refused('concurrency_limited', { rule, retryAfterMs: 1_000 });
    const { rate } = limits;
    if (rate !== undefined) {
      const intervalMs = rate.perMs / rate.count;
      const waitMs = state.dueMs - intervalMs * ((limits.burst ?? 1) - 1) - nowMs;
      if (waitMs > 0) throw new Refused('rate_limited', { rule, retryAfterMs: waitMs });
      state.dueMs = Math.max(state.dueMs, nowMs) + intervalMs;
    }
    state.running += 1;
    let taken = true;
    return () => {
      if (taken) state.running -= 1;
      taken = false;
    };
  }
}
