import type { BudgetSpec, EgressPolicy } from './document.ts';
import { bytesOf } from './units.ts';

/** How much the requests that one policy allows may come to in a time. */
export interface Budget {
  readonly policy: string;
  readonly id: string;
  /** Whose requests are counted apart from those of others. */
  readonly apart: readonly Dimension[];
  readonly period: Period;
  /** Absent: not limited. */
  readonly requests?: number;
  /** Of bodies and tunnels, both ways. */
  readonly bytes?: number;
}

type Dimension = Exclude<BudgetSpec['per'][number], Period>;
type Period = 'hour' | 'day' | 'month';

const PERIODS = ['hour', 'day', 'month'] as const satisfies readonly Period[];

/** Whose a request is. */
export type Spender = Readonly<Record<Dimension, string>>;

/** A request that was counted; its bytes are, as they go by. */
export type Spending =
  | {
      readonly ok: true;
      /** Counts bytes. False: some budget is used up by them, and the request must end. */
      readonly spend: (bytes: number) => boolean;
    }
  | { readonly ok: false; readonly budget: string; readonly retryAfterMs: number };

/** The periods that a budget names; exactly one makes sense. */
export function periodsOf({ per }: BudgetSpec): readonly Period[] {
  return PERIODS.filter((period) => per.includes(period));
}

/** The budgets of one policy. The documents must have been checked. */
export function budgetsOf({ metadata, spec }: EgressPolicy): readonly Budget[] {
  return (spec.budgets ?? []).flatMap((budget) =>
    periodsOf(budget).map((period) => ({
      policy: metadata.name,
      id: budget.id,
      apart: budget.per.filter((one) => !isPeriod(one)),
      period,
      ...(budget.requests === undefined ? {} : { requests: budget.requests }),
      ...(budget.bytes === undefined ? {} : { bytes: bytesOf(budget.bytes) }),
    })),
  );
}

function isPeriod(word: BudgetSpec['per'][number]): word is Period {
  return PERIODS.some((period) => period === word);
}

interface Account {
  readonly endsMs: number;
  requests: number;
  bytes: number;
}

/** From so many accounts on, those whose time is over are looked for. */
const SWEEP_MIN = 1_024;

/** Whoever counts budgets: a promise only where somebody else has to be asked. */
export interface BudgetCounter {
  /** Counts one request in every budget, or in none where one of them is used up. */
  take(budgets: readonly Budget[], spender: Spender, nowMs: number): Spending | Promise<Spending>;
}

/** What is counted together of a budget: `endsMs` is the first millisecond behind the period. */
export interface BudgetAccount {
  readonly key: string;
  readonly endsMs: number;
}

/** Where a request counts. Periods begin and end with the hour, day or month in UTC. */
export function accountOf(budget: Budget, spender: Spender, nowMs: number): BudgetAccount {
  const whose = budget.apart.map((dimension) => spender[dimension]);
  const key = JSON.stringify([budget.policy, budget.id, budget.apart, budget.period, whose]);
  return { key, endsMs: endOf(budget.period, nowMs) };
}

/**
 * Counts what budgets allow, in memory: whoever keeps one begins anew after a restart and knows nothing of what others count.
 * Times are of the wall clock.
 */
export class Budgets implements BudgetCounter {
  readonly #accounts = new Map<string, Account>();
  #sweepAt = SWEEP_MIN;

  /** How many accounts are open. */
  get size(): number {
    return this.#accounts.size;
  }

  /** Counts one request in every budget, or in none where one of them is used up. */
  take(budgets: readonly Budget[], spender: Spender, nowMs: number): Spending {
    const opened = budgets.map((budget) => ({
      budget,
      account: this.#accountOf(budget, spender, nowMs),
    }));
    const empty = opened.find(({ budget, account }) => isUsedUp(budget, account, 1));
    if (empty)
      return {
        ok: false,
        budget: empty.budget.id,
        retryAfterMs: Math.max(1, empty.account.endsMs - nowMs),
      };
    for (const { account } of opened) account.requests += 1;
    return {
      ok: true,
      spend: (bytes) => {
        for (const { account } of opened) account.bytes += bytes;
        return opened.every(
          ({ budget, account }) => account.bytes <= (budget.bytes ?? Number.POSITIVE_INFINITY),
        );
      },
    };
  }

  #accountOf(budget: Budget, spender: Spender, nowMs: number): Account {
    const { key, endsMs } = accountOf(budget, spender, nowMs);
    const known = this.#accounts.get(key);
    if (known && nowMs < known.endsMs) return known;
    if (this.#accounts.size >= this.#sweepAt) this.#sweep(nowMs);
    const account = { endsMs, requests: 0, bytes: 0 };
    this.#accounts.set(key, account);
    return account;
  }

  #sweep(nowMs: number): void {
    for (const [key, { endsMs }] of this.#accounts) if (endsMs <= nowMs) this.#accounts.delete(key);
    this.#sweepAt = Math.max(SWEEP_MIN, this.#accounts.size * 2);
  }
}

function isUsedUp(budget: Budget, account: Account, requests: number): boolean {
  return (
    account.requests + requests > (budget.requests ?? Number.POSITIVE_INFINITY) ||
    account.bytes >= (budget.bytes ?? Number.POSITIVE_INFINITY)
  );
}

/** The first millisecond behind the period that holds `nowMs`. */
function endOf(period: Period, nowMs: number): number {
  const now = new Date(nowMs);
  const [year, month, day] = [now.getUTCFullYear(), now.getUTCMonth(), now.getUTCDate()];
  if (period === 'hour') return Date.UTC(year, month, day, now.getUTCHours() + 1);
  return period === 'day' ? Date.UTC(year, month, day + 1) : Date.UTC(year, month + 1);
}
