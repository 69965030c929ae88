/** What came of trying to use something: it may be, it was used before, or there is no room to remember that it is. */
export type Use = 'first' | 'again' | 'full';

/** Where it is kept what was used: in this process, or in that which all workers of a proxy have in common. */
export interface OnceStore {
  use(key: string): Use | Promise<Use>;
}

/**
 * Remembers what may be used once, for as long as it could be shown again. Bounded: where it is full nothing new may be used, so that
 * nothing is forgotten for it.
 */
export class UsedOnce implements OnceStore {
  /** When each was used, by both clocks: in the order of arrival. */
  readonly #usedAt = new Map<string, { readonly wall: number; readonly elapsed: number }>();
  readonly #lifeMs: number;
  readonly #max: number;
  readonly #now: () => number;
  readonly #elapsed: () => number;

  /**
   * `lifeMs`: longer than anything that is remembered is valid, by the clock that says so; `now` is that clock, in milliseconds since
   * 1970, which may be set to and fro; `elapsed` one that only goes forward. What either has not seen run out is remembered.
   */
  constructor(options: {
    readonly lifeMs: number;
    readonly max: number;
    readonly now?: (() => number) | undefined;
    readonly elapsed?: (() => number) | undefined;
  }) {
    this.#lifeMs = options.lifeMs;
    this.#max = options.max;
    this.#now = options.now ?? Date.now;
    this.#elapsed = options.elapsed ?? (() => performance.now());
  }

  /** Whether this is the first use. Of several at the same time one is. */
  use(key: string): Use {
    const now = { wall: this.#now(), elapsed: this.#elapsed() };
    this.#forget(now.wall - this.#lifeMs, now.elapsed - this.#lifeMs);
    if (this.#usedAt.has(key)) return 'again';
    if (this.#usedAt.size >= this.#max) return 'full';
    this.#usedAt.set(key, now);
    return 'first';
  }

  /** What was used by then, by both clocks. */
  #forget(wall: number, elapsed: number): void {
    for (const [key, at] of this.#usedAt) {
      if (at.wall > wall || at.elapsed > elapsed) return;
      this.#usedAt.delete(key);
    }
  }
}
