import {
  type Budget,
  type BudgetCounter,
  Budgets,
  type Quota,
  RuleLimits,
  type Spender,
  type Spending,
} from '#policies';
import {
  type Dimension,
  intervalMs,
  type Limit,
  type Limiter,
  type Taken,
} from './limits/limit.ts';

/** What one allowed request counts under. Plain data: another process may do the counting. */
export interface Countable {
  /** Of rates and bytes. */
  readonly limits: readonly Limit[];
  /** So many may run at once of all that name the same key; undefined: as many as come. */
  readonly concurrent: { readonly key: string; readonly max: number } | undefined;
  readonly budgets: readonly Budget[];
  readonly spender: Spender;
}

/** What refused a request, and when to come back. */
export interface CountedOut {
  readonly ok: false;
  readonly dimension: Dimension | 'concurrency' | 'budget';
  readonly unit: Limit['unit'];
  readonly retryAfterMs: number;
  /** Of requests, where a rate refused it. */
  readonly quota?: Quota | undefined;
}

/** A request that was counted, until `release`. */
export interface CountedIn {
  readonly ok: true;
  /** Counts bytes. False: a budget is used up by them, and the request must end. */
  readonly spend: (bytes: number) => boolean;
  /** To be called once, when it has ended. */
  readonly release: () => void;
}

/** The one view of everything that is counted over requests: how many at once, rates, bytes and budgets. */
export interface Counts {
  /** Counts one request under all of it, or under nothing. A promise only where somebody else has to be asked. */
  take(countable: Countable): CountedIn | CountedOut | Promise<CountedIn | CountedOut>;
  close(): Promise<void> | void;
}

/** Whoever counts budgets for others as well. */
export interface ClosableBudgets extends BudgetCounter {
  close(): Promise<void> | void;
}

/** Counts in this process; rates and bytes as `limiter` does, and budgets as `shared` does where there is one. */
export function createCounts(limiter: Limiter, shared?: ClosableBudgets): Counts {
  const running = new RuleLimits();
  const accounts: BudgetCounter = shared ?? new Budgets();
  return {
    take({ limits, concurrent, budgets, spender }) {
      const place = concurrent
        ? running.take(concurrent.key, { concurrent: concurrent.max }, performance.now())
        : UNCOUNTED;
      if (!place.ok) return countedOut('concurrency', place.retryAfterMs);
      const spent = (counted: Extract<Taken, { ok: true }>, spending: Spending) => {
        if (!spending.ok) {
          place.release();
          return countedOut('budget', spending.retryAfterMs);
        }
        const spend = (bytes: number): boolean => {
          counted.spend(bytes);
          return spending.spend(bytes);
        };
        return { ok: true, spend, release: place.release } as const;
      };
      const taken = (counted: Taken): ReturnType<Counts['take']> => {
        if (!counted.ok) {
          place.release();
          return limitReached(counted);
        }
        const spending = accounts.take(budgets, spender, Date.now());
        return spending instanceof Promise
          ? spending.then((one) => spent(counted, one))
          : spent(counted, spending);
      };
      const failed = (error: unknown): never => {
        place.release();
        throw error;
      };
      try {
        const taking = limiter.take(limits);
        const counting = taking instanceof Promise ? taking.then(taken) : taken(taking);
        return counting instanceof Promise ? counting.catch(failed) : counting;
      } catch (error) {
        return failed(error);
      }
    },
    async close() {
      await shared?.close();
      await limiter.close();
    },
  };
}

const UNCOUNTED = { ok: true, release: () => {} } as const;

/** What a limit refused. */
export function limitReached({ limit, retryAfterMs }: Extract<Taken, { ok: false }>): CountedOut {
  const { dimension, unit, burst } = limit;
  const windowMs = intervalMs(limit) * burst;
  const quota = { count: burst, windowMs, remaining: 0, resetMs: retryAfterMs };
  return { ok: false, dimension, unit, retryAfterMs, ...(unit === 'requests' && { quota }) };
}

function countedOut(dimension: CountedOut['dimension'], retryAfterMs: number): CountedOut {
  return { ok: false, dimension, unit: 'requests', retryAfterMs };
}
