import type { Clock } from '#core/clock';

/** How a request to a server ended: with an answer of its own, without having reached it, or in a failure of it. */
export type ExchangeEnd = 'answered' | 'unreachable' | 'failed';

/** A server that could not be reached is left out for so long. */
const EJECTED_MS = 5_000;
const FAILURES_MAX = 5;
/** One that failed five times in a row is left out for so long; then one request at a time finds out whether it is back. */
const OPEN_MS = 30_000;
const CHECKS_FAILED_MAX = 3;

/** What is known of one server's health: from the requests that it got, and from checks. */
export class Circuit {
  readonly #now: Clock;
  #failures = 0;
  #ejectedUntil = 0;
  #openUntil = 0;
  #trying = false;
  #checksFailed = 0;
  /** It has said that it is about to stop. */
  leaving = false;

  constructor(now: Clock) {
    this.#now = now;
  }

  /** Whether it may get something new. */
  get closed(): boolean {
    const now = this.#now();
    if (this.leaving || this.down || this.#ejectedUntil > now || this.#openUntil > now)
      return false;
    return this.#openUntil === 0 || !this.#trying;
  }

  /** Whether three checks in a row have failed: its sessions are not coming back. */
  get down(): boolean {
    return this.#checksFailed >= CHECKS_FAILED_MAX;
  }

  /** A request was sent. */
  begun(): void {
    if (this.#openUntil !== 0 && this.#openUntil <= this.#now()) this.#trying = true;
  }

  ended(end: ExchangeEnd): void {
    this.#trying = false;
    if (end === 'answered') {
      this.#failures = 0;
      this.#openUntil = 0;
      return;
    }
    this.#failures += 1;
    if (end === 'unreachable') this.#ejectedUntil = this.#now() + EJECTED_MS;
    if (this.#failures >= FAILURES_MAX) this.#openUntil = this.#now() + OPEN_MS;
  }

  /** A request ended without saying anything about the server: its client went away. */
  abandoned(): void {
    this.#trying = false;
  }

  checked(sound: boolean): void {
    this.#checksFailed = sound ? 0 : this.#checksFailed + 1;
    // It can be reached, which is all that it was ejected for; what it fails at, a check may not notice.
    if (sound) this.#ejectedUntil = 0;
  }
}
