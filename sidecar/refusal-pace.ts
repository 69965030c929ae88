/** So many refusals are answered at once, */
const AT_ONCE = 2_000;
/** and then one in so much time: a refusal costs a program microseconds, and the audit's disk half a KiB for ever. */
const EACH_MS = 2;
/** Further ahead than any get who wait for their answers. */
const FAR_AHEAD_MS = 10_000;

/**
 * How fast one sandbox is refused. What is ahead of the pace is held back, so that each refusal can be told as it is and recorded; times are of a
 * monotonic clock.
 */
export class RefusalPace {
  /** Until when those so far are due. */
  #dueMs = Number.NEGATIVE_INFINITY;

  /** Counts a refusal in. False, and it is not counted, where it is so far ahead that nobody can be waiting for its answer. */
  take(nowMs: number): boolean {
    if (this.aheadMs(nowMs) > FAR_AHEAD_MS) return false;
    this.#dueMs = Math.max(this.#dueMs, nowMs - AT_ONCE * EACH_MS) + EACH_MS;
    return true;
  }

  /** How long to hold back what comes next. */
  aheadMs(nowMs: number): number {
    return Math.max(0, this.#dueMs - nowMs);
  }
}
