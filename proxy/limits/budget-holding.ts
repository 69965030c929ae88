import type { BudgetAnswer, BudgetAsk } from './budget-store.ts';

/** Held ahead is this part of a proxy's share of what is left: what one that dies holds is nobody's until the period is over. */
const AHEAD_SHARE = 4;
/** Bytes are fetched at least so many at a time, if that is not more than such a part of the whole budget, */
const BYTES_AHEAD = 65_536;
/** and so many may pass beyond what was granted, while an answer is under way. */
const BYTES_OVER = 1_048_576;
/** Who is refused because nothing was left is not asked for again before this time is over. */
const EMPTY_MS = 100;
/** What is in use is asked about this often, so that what is held follows what is left. */
const REFRESH_MS = 1_000;
/** What nobody used for so long is given back. */
const IDLE_MS = 5_000;
/** Clocks differ: what has ended for one goes on for another for a moment. */
const KEPT_MS = 60_000;

/** What is counted: of a budget, for somebody, in one period and under one limit. */
export interface Account {
  /** Names it, its unit and its period everywhere, and nobody. */
  readonly key: string;
  /** The id of the budget. */
  readonly budget: string;
  readonly unit: 'requests' | 'bytes';
  readonly limit: number;
  /** Of the wall clock. */
  readonly endsMs: number;
  /** How many proxies share it. */
  readonly proxies: number;
}

/** What one proxy has of one account. Times are monotonic but where something else is said. */
export class Holding {
  readonly account: Account;
  readonly #by: string;
  #turn = 0;
  #used = 0;
  /** So much may be used in all. Of bytes, what is used may be more. */
  #granted = 0;
  #last: BudgetAnswer | undefined;
  #answeredAtMs = Number.NEGATIVE_INFINITY;
  #askedAtMs = Number.NEGATIVE_INFINITY;
  /** What it has used, as the store knows it. */
  #told = 0;
  #usedAtMs: number;
  #isAnswered = false;
  #waiting = 0;
  #doubtsUntilMs = Number.NEGATIVE_INFINITY;
  /** Until it is used again, nothing is held. */
  #isGivenBack = false;

  /** `by` must be new: what it names is what this holding says, and nothing else. */
  constructor(account: Account, by: string, nowMs: number) {
    this.account = account;
    this.#by = by;
    this.#usedAtMs = nowMs;
  }

  /** Whether one more request may be let through now. */
  has(): boolean {
    return this.#granted - this.#used >= 1;
  }

  /** Whether what is under way may go on: until nothing is left anywhere, or too much was used without an answer. */
  isOpen(): boolean {
    const over = this.#used - this.#granted;
    return over <= 0 || (this.#last?.left !== 0 && over <= BYTES_OVER);
  }

  /** Whether the store has just said that nothing is left. */
  isEmpty(nowMs: number): boolean {
    return this.#last?.left === 0 && nowMs - this.#answeredAtMs < EMPTY_MS;
  }

  /** Whether there was an answer to what was asked last. */
  get isAnswered(): boolean {
    return this.#isAnswered;
  }

  /** Whether there will be nothing more in this period: what others only hold, they may give back. */
  get isUsedUp(): boolean {
    return this.#last?.isUsedUp === true;
  }

  /** Whether nobody uses it, so that what it holds may be given back. */
  isIdle(nowMs: number): boolean {
    return this.#waiting === 0 && nowMs - this.#usedAtMs > IDLE_MS;
  }

  isStale(nowMs: number): boolean {
    return !this.isIdle(nowMs) && nowMs - this.#askedAtMs > REFRESH_MS;
  }

  /** Whether no clock counts in its period any more. `wallMs` is of the wall clock. */
  isOver(wallMs: number): boolean {
    return wallMs >= this.account.endsMs + KEPT_MS;
  }

  waits(): void {
    this.#waiting += 1;
    this.#isGivenBack = false;
  }

  waitsNoLonger(): void {
    this.#waiting -= 1;
  }

  /** Whether it is time to ask for more. */
  use(amount: number, nowMs: number): boolean {
    this.#used += amount;
    this.#usedAtMs = nowMs;
    this.#isGivenBack = false;
    if (this.#last?.left === 0 || this.isInDoubt(nowMs)) return false;
    return this.#granted - this.#used < this.#ahead() / 2;
  }

  /** Whether there is anything to give back; the next ask does it. */
  giveBack(): boolean {
    this.#isGivenBack = true;
    return this.#granted > this.#used;
  }

  /** Whether the store does not know all that was used. */
  get isUntold(): boolean {
    return this.#used !== this.#told;
  }

  /** Until then nothing more is taken: the store may have forgotten what others have, and they tell it meanwhile. */
  doubt(untilMs: number): void {
    this.#doubtsUntilMs = Math.max(this.#doubtsUntilMs, untilMs);
  }

  isInDoubt(nowMs: number): boolean {
    return nowMs < this.#doubtsUntilMs;
  }

  /** It has forgotten nothing. */
  believe(): void {
    this.#doubtsUntilMs = Number.NEGATIVE_INFINITY;
  }

  /** What is held beyond twice of what is wanted is given up as this is said. `wallMs` is of the wall clock. */
  ask(nowMs: number, wallMs: number): BudgetAsk {
    const target = this.#isGivenBack ? 0 : this.#ahead() + this.#waiting;
    const used = this.#used;
    this.#granted = Math.min(this.#granted, used + 2 * target);
    const total = Math.max(used, this.#granted);
    this.#turn += 1;
    this.#askedAtMs = nowMs;
    this.#isAnswered = false;
    return {
      key: this.account.key,
      by: this.#by,
      turn: this.#turn,
      keepMs: Math.max(0, this.account.endsMs - wallMs) + KEPT_MS,
      limit: this.account.limit,
      used,
      total,
      want: this.isInDoubt(nowMs) ? 0 : Math.max(0, target - (total - used)),
    };
  }

  /**
   * Whether the store had forgotten what it was told, or all that it was told by anybody (`isStoreNew`): what it gives then is not taken,
   * which the next ask says.
   */
  answered(
    { total, used }: BudgetAsk,
    answer: BudgetAnswer,
    isStoreNew: boolean,
    nowMs: number,
  ): boolean {
    const isForgotten = isStoreNew || (this.#last !== undefined && !answer.isKnown);
    // What was used meanwhile was used of this, too.
    this.#granted = total + (isForgotten ? 0 : answer.granted);
    this.#told = used;
    this.#isAnswered = true;
    if (isForgotten) return true;
    this.#last = answer;
    this.#answeredAtMs = nowMs;
    return false;
  }

  #ahead(): number {
    const { limit, unit } = this.account;
    const left = (this.#last?.left ?? limit) + Math.max(0, this.#granted - this.#used);
    const share = this.#shareOf(left);
    return unit === 'bytes' ? Math.max(share, Math.min(BYTES_AHEAD, this.#shareOf(limit))) : share;
  }

  #shareOf(amount: number): number {
    return Math.floor(amount / (AHEAD_SHARE * this.account.proxies));
  }
}
