import type { Clock } from '#core/clock';

/** How a request to a server ended: with an answer of its own, without having reached it, or in a failure of it. */
export type ExchangeEnd = 'answered' | 'unreachable' | 'failed';

/** What a check found: `unsound` is an answer, or a refusal, of a server that cannot serve; `silent` is neither. */
export type Health = 'sound' | 'unsound' | 'silent';

/** A server that could not be reached is left out for so long. */
const EJECTED_MS = 5_000;
const FAILURES_MAX = 5;
/** One that failed five times in a row rests for so long; then one request at a time finds out whether it is back. */
const OPEN_MS = 30_000;
/** Then another one may: the first may be a call that takes an hour. */
const TRIED_MS = 5_000;
const CHECKS_FAILED_MAX = 3;

/** What is known of one server's health: from the requests that it got, and from checks. */
export class Circuit {
  readonly #now: Clock;
  #requests = 0;
  #failures = 0;
  /** The last request that was sent before the last failure was known. */
  #failedAfter = 0;
  #ejectedUntil = 0;
  #openUntil = 0;
  #triedUntil = 0;
  #checksFailed = 0;
  #checksSilent = 0;
  #isHeard = false;
  /** It has said that it is about to stop. */
  leaving = false;

  constructor(now: Clock) {
    this.#now = now;
  }

  /** Whether it may get something new. */
  get closed(): boolean {
    return !this.leaving && !this.down && this.#ejectedUntil <= this.#now() && this.restMs === 0;
  }

  /** For how long nothing at all is sent to it, because it has failed at what it got. */
  get restMs(): number {
    return this.#openUntil === 0
      ? 0
      : Math.max(0, this.#openUntil - this.#now(), this.#triedUntil - this.#now());
  }

  /** Whether three checks in a row have failed: its sessions are not coming back. */
  get down(): boolean {
    return this.#checksFailed >= CHECKS_FAILED_MAX;
  }

  /** Whether nothing has come from it since before three checks in a row: what waits for it would wait for ever. One that is busy says something. */
  get silent(): boolean {
    return this.#checksSilent >= CHECKS_FAILED_MAX;
  }

  /** A request was sent. Returns its number, for `ended`. */
  begun(): number {
    if (this.#openUntil !== 0) this.#triedUntil = this.#now() + TRIED_MS;
    this.#requests += 1;
    return this.#requests;
  }

  /** Something has come from it; `works`: the head of an answer that is no failure. */
  heard(works: boolean): void {
    this.#isHeard = true;
    if (!works || this.#openUntil === 0 || this.#openUntil > this.#now()) return;
    this.#openUntil = 0;
    // The answer may still break off: then it was the next failure in a row.
    this.#failures = FAILURES_MAX - 1;
  }

  ended(end: ExchangeEnd, request: number): void {
    this.#triedUntil = 0;
    if (end === 'answered') {
      this.#failures = 0;
      this.#openUntil = 0;
      return;
    }
    if (end === 'unreachable') {
      this.#ejectedUntil = this.#now() + EJECTED_MS;
      return;
    }
    // What one death took with it has failed once.
    if (request <= this.#failedAfter) return;
    this.#failedAfter = this.#requests;
    this.#failures += 1;
    if (this.#failures >= FAILURES_MAX) this.#openUntil = this.#now() + OPEN_MS;
  }

  /** A request ended without saying anything about the server: its client went away. */
  abandoned(): void {
    this.#triedUntil = 0;
  }

  checked(health: Health): void {
    this.#checksFailed = health === 'sound' ? 0 : this.#checksFailed + 1;
    this.#checksSilent = health !== 'silent' || this.#isHeard ? 0 : this.#checksSilent + 1;
    this.#isHeard = false;
    // It can be reached, which is all that it was ejected for; what it fails at, a check may not notice.
    if (health === 'sound') this.#ejectedUntil = 0;
  }
}
