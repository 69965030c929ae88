import { count, debtMs, type Gcra, waitMs } from './gcra.ts';
import { intervalMs, type Limit, type Limiter, type Taken } from './limit.ts';

/** From so many keys on, those that say nothing any more are looked for. */
const SWEEP_MIN = 1_024;

/** Limits that this process alone counts, by GCRA. They begin anew after a restart and know nothing of other proxies. */
export class LocalLimits implements Limiter {
  readonly #states = new Map<string, Gcra>();
  readonly #now: () => number;
  #sweepAt = SWEEP_MIN;

  /** Times are of a monotonic clock, in milliseconds. */
  constructor(now = () => performance.now()) {
    this.#now = now;
  }

  /** How many keys are remembered. */
  get size(): number {
    return this.#states.size;
  }

  take(limits: readonly Limit[]): Taken {
    const nowMs = this.#now();
    let refused: Limit | undefined;
    let longest = 0;
    for (const limit of limits) {
      const wait = waitOf(this.#stateOf(limit, nowMs), limit, nowMs);
      if (wait <= longest) continue;
      longest = wait;
      refused = limit;
    }
    if (refused) return { ok: false, limit: refused, retryAfterMs: longest };
    for (const limit of limits)
      if (limit.unit === 'requests')
        count(this.#stateOf(limit, nowMs), intervalMs(limit), 1, nowMs);
    return { ok: true, spend: (bytes) => this.#spend(limits, bytes) };
  }

  close(): void {
    this.#states.clear();
  }

  #spend(limits: readonly Limit[], bytes: number): void {
    for (const limit of limits)
      if (limit.unit === 'bytes') {
        const nowMs = this.#now();
        count(this.#stateOf(limit, nowMs), intervalMs(limit), bytes, nowMs);
      }
  }

  #stateOf({ key }: Limit, nowMs: number): Gcra {
    const known = this.#states.get(key);
    if (known) return known;
    if (this.#states.size >= this.#sweepAt) this.#sweep(nowMs);
    const state = { dueMs: nowMs };
    this.#states.set(key, state);
    return state;
  }

  /** Forgets what is as if it had never been: the whole burst is there again. */
  #sweep(nowMs: number): void {
    for (const [key, { dueMs }] of this.#states) if (dueMs <= nowMs) this.#states.delete(key);
    this.#sweepAt = Math.max(SWEEP_MIN, this.#states.size * 2);
  }
}

function waitOf(state: Gcra, limit: Limit, nowMs: number): number {
  return limit.unit === 'requests'
    ? waitMs(state, intervalMs(limit), limit.burst, nowMs)
    : debtMs(state, intervalMs(limit), limit.burst, nowMs);
}
