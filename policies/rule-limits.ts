import type { Limits } from './projection.ts';
import type { RateValue } from './units.ts';

/** A place under a rule's limits, given back once by `release`; or why there is none and when to come back. `quota`: where there is a rate. */
export type Place =
  | { readonly ok: true; readonly release: () => void; readonly quota?: Quota }
  | {
      readonly ok: false;
      readonly reason: 'rate_limited' | 'concurrency_limited';
      readonly retryAfterMs: number;
      readonly quota?: Quota;
    };

/**
 * What a rate leaves, as a window: whoever sends `remaining` and no more for `resetMs` is not refused, and after that may send `count`
 * in `windowMs`. Of what was refused, `resetMs` is when the next may come.
 */
export interface Quota {
  readonly count: number;
  readonly windowMs: number;
  readonly remaining: number;
  readonly resetMs: number;
}

interface State {
  /** The theoretical arrival time of GCRA: when the next request would be exactly on time. */
  dueMs: number;
  running: number;
}

/** A place is expected to be free again by then; nobody knows how long a request takes. */
const CONCURRENCY_RETRY_MS = 1_000;
/** From so many keys on, those that say nothing any more are looked for. */
const SWEEP_MIN = 1_024;

/**
 * Counts `rate` (GCRA, with `burst`) and `concurrent` of rules, in memory. Who keeps one decides what a key stands for: a sidecar
 * counts the rules of one sandbox, the proxy those of all sandboxes of a tenant's role. Times are of a monotonic clock.
 */
export class RuleLimits {
  readonly #states = new Map<string, State>();
  #sweepAt = SWEEP_MIN;

  /** How many keys are remembered. */
  get size(): number {
    return this.#states.size;
  }

  /** Takes a place for one request; of limits that name neither rate nor concurrency nothing is counted. */
  take(key: string, limits: Limits, nowMs: number): Place {
    if (limits.rate === undefined && limits.concurrent === undefined)
      return { ok: true, release: () => {} };
    const state = this.#stateOf(key, nowMs);
    if (limits.concurrent !== undefined && state.running >= limits.concurrent)
      return { ok: false, reason: 'concurrency_limited', retryAfterMs: CONCURRENCY_RETRY_MS };
    const { rate, burst = 1 } = limits;
    const waitMs = rate ? takeRate(state, rate, burst, nowMs) : 0;
    const quota = rate && quotaOf(state, rate, burst, { nowMs, waitMs });
    if (waitMs > 0)
      return { ok: false, reason: 'rate_limited', retryAfterMs: waitMs, ...(quota && { quota }) };
    state.running += 1;
    let taken = true;
    const release = (): void => {
      if (taken) state.running -= 1;
      taken = false;
    };
    return { ok: true, release, ...(quota && { quota }) };
  }

  #stateOf(key: string, nowMs: number): State {
    const known = this.#states.get(key);
    if (known) return known;
    if (this.#states.size >= this.#sweepAt) this.#sweep(nowMs);
    const state = { dueMs: nowMs, running: 0 };
    this.#states.set(key, state);
    return state;
  }

  /** Forgets what is as if it had never been: nothing runs, and the whole burst is there again. */
  #sweep(nowMs: number): void {
    for (const [key, { dueMs, running }] of this.#states)
      if (running === 0 && dueMs <= nowMs) this.#states.delete(key);
    this.#sweepAt = Math.max(SWEEP_MIN, this.#states.size * 2);
  }
}

/** Moves the arrival time by one request and returns 0, or returns how long to wait for that. */
function takeRate(state: State, { count, perMs }: RateValue, burst: number, nowMs: number): number {
  const intervalMs = perMs / count;
  // Only a rate that was slower until now can have left more: who raises a limit does not wait for the old one.
  state.dueMs = Math.min(state.dueMs, nowMs + intervalMs * burst);
  const waitMs = exact(state.dueMs - intervalMs * (burst - 1) - nowMs);
  if (waitMs > 0) return waitMs;
  state.dueMs = Math.max(state.dueMs, nowMs) + intervalMs;
  return 0;
}

/** Sums of fractions are off by less than what anybody could wait for. */
function exact(sum: number): number {
  return Math.round(sum * 1_000) / 1_000;
}

function quotaOf(
  { dueMs }: State,
  { count, perMs }: RateValue,
  burst: number,
  { nowMs, waitMs }: { readonly nowMs: number; readonly waitMs: number },
): Quota {
  const intervalMs = perMs / count;
  const windowMs = intervalMs * burst;
  if (waitMs > 0) return { count: burst, windowMs, remaining: 0, resetMs: waitMs };
  const remaining = Math.max(0, Math.floor(exact((nowMs + windowMs - dueMs) / intervalMs)));
  // As if the rest were used, too: only then is it sure that all of them are there again.
  const resetMs = exact(dueMs + remaining * intervalMs - nowMs);
  return { count: burst, windowMs, remaining, resetMs };
}

/** The limits of a rule that are one number each, of which the smaller is the stricter; `rate` with `burst` and `stepMs` are not. */
export const COUNTS = [
  'concurrent',
  'requestBytes',
  'responseBytes',
  'durationMs',
  'rows',
  'scanBytes',
  'queryTimeMs',
  'rangeMs',
] as const satisfies readonly (keyof Limits)[];

/** Limits that hold wherever both do: the smaller of each number (the larger of two steps), the slower rate, and the smaller burst of two rates. */
export function stricterLimits(a: Limits, b: Limits): Limits {
  const stricter: { -readonly [Name in keyof Limits]: Limits[Name] } = {};
  for (const name of COUNTS) {
    const value = smaller(a[name], b[name]);
    if (value !== undefined) stricter[name] = value;
  }
  const stepMs = Math.max(a.stepMs ?? 0, b.stepMs ?? 0);
  if (stepMs > 0) stricter.stepMs = stepMs;
  const rates = [a, b].filter(({ rate }) => rate !== undefined);
  const rate = slower(a.rate, b.rate);
  if (rate === undefined) return stricter;
  return { ...stricter, rate, burst: Math.min(...rates.map(({ burst = 1 }) => burst)) };
}

function smaller(a: number | undefined, b: number | undefined): number | undefined {
  return a === undefined || b === undefined ? (a ?? b) : Math.min(a, b);
}

function slower(a: RateValue | undefined, b: RateValue | undefined): RateValue | undefined {
  if (a === undefined || b === undefined) return a ?? b;
  return a.count / a.perMs <= b.count / b.perMs ? a : b;
}
