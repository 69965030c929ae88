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
  /** Until when each is remembered: in the order of arrival, which is that of the ends. */
  readonly #until = new Map<string, number>();
  readonly #lifeMs: number;
  readonly #max: number;
  readonly #now: () => number;

  /**
   * `lifeMs`: longer than anything that is remembered is valid, by the clock that says so; `now` is that clock, in milliseconds since
   * 1970.
   */
  constructor(options: {
    readonly lifeMs: number;
    readonly max: number;
    readonly now?: (() => number) | undefined;
  }) {
    this.#lifeMs = options.lifeMs;
    this.#max = options.max;
    this.#now = options.now ?? Date.now;
  }

  /** Whether this is the first use. Of several at the same time one is. */
  use(key: string): Use {
    const now = this.#now();
    this.#forget(now);
    if (this.#until.has(key)) return 'again';
    if (this.#until.size >= this.#max) return 'full';
    this.#until.set(key, now + this.#lifeMs);
    return 'first';
  }

  #forget(now: number): void {
    for (const [key, until] of this.#until) {
      if (until > now) return;
      this.#until.delete(key);
    }
  }
}
