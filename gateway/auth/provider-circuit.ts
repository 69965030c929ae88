import type { Clock } from '#core/clock';

const FAILURES_MAX = 3;
const OPEN_MS = 30_000;
/** When to ask again where nothing says that this would be in vain. */
const RETRY_MS = 1_000;

/** Keeps a provider that is down from being asked: after three failures in a row for 30 s, then by one question at a time. */
export class ProviderCircuit {
  readonly #now: Clock;
  #failures = 0;
  #openUntil = 0;
  #asking = false;

  constructor(now: Clock) {
    this.#now = now;
  }

  /** What `ask` answers, or why there is no answer, and in how long there may be one. Never rejects. */
  async ask<T>(
    ask: () => Promise<T>,
  ): Promise<{ readonly answer: T } | { readonly error: unknown; readonly retryAfterMs: number }> {
    const open = this.#failures >= FAILURES_MAX;
    if (open && (this.#asking || this.#now() < this.#openUntil))
      return this.#unanswered(
        new Error('the provider is left alone: it has failed three times in a row'),
      );
    this.#asking = open;
    try {
      const answer = await ask();
      this.#failures = 0;
      return { answer };
    } catch (error) {
      this.#failures += 1;
      this.#openUntil = this.#now() + OPEN_MS;
      return this.#unanswered(error);
    } finally {
      this.#asking = false;
    }
  }

  #unanswered(error: unknown) {
    const restMs = this.#failures >= FAILURES_MAX ? this.#openUntil - this.#now() : 0;
    return { error, retryAfterMs: Math.max(RETRY_MS, restMs) };
  }
}
