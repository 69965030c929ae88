import type { Spender } from '#policies';
import {
  type ClosableBudgets,
  type Countable,
  type CountedIn,
  type CountedOut,
  type Counts,
  limitReached,
} from '../counts.ts';
import type { Limiter, Taken } from '../limits/limit.ts';
import type { CountAnswer, Counting } from './doors.ts';

/** Bytes are told this often: by what passes meanwhile a budget may be overdrawn. */
const TELL_MS = 10;

/** How the primary is reached. */
export interface CountingPrimary {
  readonly count: (countable: Countable) => Promise<CountAnswer>;
  readonly counting: (news: Counting) => void;
}

/**
 * The counts of one of several workers: rates and bytes are those of `limiter`, which leases them, and budgets those of `budgets` where other
 * proxies count them, too; how many run at once and other budgets are counted in the primary, so that a request that one of these
 * limits waits for an answer from there.
 */
export class RemoteCounts implements Counts {
  readonly #primary: CountingPrimary;
  readonly #limiter: Limiter;
  readonly #budgets: ClosableBudgets | undefined;
  readonly #usedUp = new Set<number>();
  readonly #open = new Set<number>();
  #spent = new Map<number, number>();
  #released: number[] = [];
  #telling: NodeJS.Timeout | undefined;

  constructor(primary: CountingPrimary, limiter: Limiter, budgets?: ClosableBudgets) {
    this.#primary = primary;
    this.#limiter = limiter;
    this.#budgets = budgets;
  }

  take(countable: Countable): ReturnType<Counts['take']> {
    const { limits, concurrent, budgets } = countable;
    if (concurrent || budgets.length > 0) return this.#takeThere(countable);
    const taking = this.#limiter.take(limits);
    return taking instanceof Promise ? taking.then(leased) : leased(taking);
  }

  /** In the order of `createCounts`: what refuses a request decides what it has used up. */
  async #takeThere({
    limits,
    concurrent,
    budgets,
    spender,
  }: Countable): Promise<CountedIn | CountedOut> {
    const none = { limits: [], budgets: [], concurrent: undefined, spender };
    const place = concurrent ? await this.#count({ ...none, concurrent }) : UNCOUNTED;
    if (!place.ok) return place;
    try {
      const rates = leased(await this.#limiter.take(limits));
      const spending =
        rates.ok && budgets.length > 0 ? await this.#spend(budgets, spender) : UNCOUNTED;
      if (rates.ok && spending.ok) return together(place, rates, spending);
      place.release();
      return rates.ok ? spending : rates;
    } catch (error) {
      place.release();
      throw error;
    }
  }

  async #spend(budgets: Countable['budgets'], spender: Spender): Promise<CountedIn | CountedOut> {
    if (!this.#budgets) return this.#count({ limits: [], budgets, concurrent: undefined, spender });
    const spending = await this.#budgets.take(budgets, spender, Date.now());
    if (spending.ok) return { ...spending, release: () => {} };
    const { retryAfterMs } = spending;
    return { ok: false, dimension: 'budget', unit: 'requests', retryAfterMs };
  }

  async #count(countable: Countable): Promise<CountedIn | CountedOut> {
    const answer = await this.#primary.count(countable);
    if (!answer.ok) return answer;
    return answer.id === null ? UNCOUNTED : this.#counted(answer.id);
  }

  /** The primary has said so. */
  markUsedUp(ids: readonly number[]): void {
    for (const id of ids) if (this.#open.has(id)) this.#usedUp.add(id);
  }

  /** Says what has not been said yet. */
  async close(): Promise<void> {
    this.#tell();
    await this.#budgets?.close();
    await this.#limiter.close();
  }

  #counted(id: number): CountedIn {
    this.#open.add(id);
    return {
      ok: true,
      spend: (bytes) => {
        if (bytes > 0) {
          this.#spent.set(id, (this.#spent.get(id) ?? 0) + bytes);
          this.#telling ??= setTimeout(() => this.#tell(), TELL_MS);
        }
        return !this.#usedUp.has(id);
      },
      release: () => {
        if (!this.#open.delete(id)) return;
        this.#usedUp.delete(id);
        this.#released.push(id);
        // Somebody may be waiting for this place.
        if (this.#released.length === 1) setImmediate(() => this.#tell());
      },
    };
  }

  #tell(): void {
    clearTimeout(this.#telling);
    this.#telling = undefined;
    const [spent, released] = [this.#spent, this.#released];
    if (spent.size === 0 && released.length === 0) return;
    this.#spent = new Map();
    this.#released = [];
    this.#primary.counting({ spent: [...spent], released });
  }
}

function together(place: CountedIn, rates: CountedIn, spending: CountedIn): CountedIn {
  return {
    ok: true,
    spend: (bytes) => {
      rates.spend(bytes);
      return spending.spend(bytes);
    },
    release: () => {
      place.release();
      spending.release();
    },
  };
}

const UNCOUNTED: CountedIn = { ok: true, spend: () => true, release: () => {} };

function leased(taken: Taken): CountedIn | CountedOut {
  if (taken.ok)
    return {
      ok: true,
      spend: (bytes) => {
        taken.spend(bytes);
        return true;
      },
      release: () => {},
    };
  return limitReached(taken);
}
