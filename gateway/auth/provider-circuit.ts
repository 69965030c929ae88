import type { Clock } from '#core/clock';

const FAILURES_MAX = 3;
const OPEN_MS = 30_000;

/** Keeps a provider that is down from being asked: after three failures in a row for 30 s, then by one question at a time. */
export class ProviderCircuit {
  readonly #now: Clock;
  #failures = 0;
  #openUntil = 0;
  #asking = false;

  constructor(now: Clock) {
    this.#now = now;
  }

  /** What `ask` answers, or why there is no answer. Never rejects. */
  async ask<T>(
    ask: () => Promise<T>,
  ): Promise<{ readonly answer: T } | { readonly error: unknown }> {
    const open = this.#failures >= FAILURES_MAX;
    if (open && (this.#asking || this.#now() < this.#openUntil))
      return { error: new Error('the provider is left alone: it has failed three times in a row') };
    this.#asking = open;
    try {
      const answer = await ask();
      this.#failures = 0;
      return { answer };
    } catch (error) {
      this.#failures += 1;
      this.#openUntil = this.#now() + OPEN_MS;
      return { error };
    } finally {
      this.#asking = false;
    }
  }
}
