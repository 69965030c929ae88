import type { OutriderError } from '#core/errors';
import { refused } from './refusal.ts';

/** So many connections in a row that failed open the breaker of an upstream. */
const FAILURES = 5;
/** So long nobody is let near it; then one call tries. */
const COOL_DOWN_MS = 30_000;
/** Upstreams that are remembered because something was wrong with them. */
const UPSTREAMS_MAX = 4_096;

export type BreakerState = 'open' | 'half-open' | 'failing';

interface Upstream {
  failures: number;
  /** When one may try again; 0 while the breaker is shut. */
  retryAtMs: number;
  trying: boolean;
}

/** A call that may try: it must say what came of the connection. */
export interface Try {
  /** It was there, or was told apart from an upstream that is down. */
  readonly reached: () => void;
  readonly failed: () => void;
}

/**
 * Keeps calls from an upstream that cannot be reached: after five failed connections in a row all are refused at once for 30 s,
 * then one tries. Only what is wrong whoever asks counts (connecting, TLS), never what an upstream answers, nor how slowly: else one
 * caller could shut an upstream for the others. Times are of a monotonic clock.
 */
export class Breakers {
  readonly #upstreams = new Map<string, Upstream>();
  readonly #now: () => number;
  readonly #onOpened: () => void;

  constructor(options: { now?: () => number; onOpened?: () => void } = {}) {
    this.#now = options.now ?? (() => performance.now());
    this.#onOpened = options.onOpened ?? (() => {});
  }

  /**
   * To be asked before a name is looked up.
   * @throws {OutriderError} UPSTREAM_UNREACHABLE, with the time to wait
   */
  enter(upstream: string): Try {
    const known = this.#upstreams.get(upstream);
    const nowMs = this.#now();
    if (known && known.retryAtMs > 0 && (nowMs < known.retryAtMs || known.trying))
      throw shut(Math.max(1_000, known.retryAtMs - nowMs));
    if (known && known.retryAtMs > 0) known.trying = true;
    let said = false;
    const once = (say: () => void) => (): void => {
      if (!said) say();
      said = true;
    };
    return {
      reached: once(() => this.#upstreams.delete(upstream)),
      failed: once(() => this.#failed(upstream)),
    };
  }

  /** How many upstreams are in each state; those that are well are not remembered. */
  count(): Readonly<Record<BreakerState, number>> {
    const counts = { open: 0, 'half-open': 0, failing: 0 };
    const nowMs = this.#now();
    for (const { retryAtMs } of this.#upstreams.values())
      counts[retryAtMs === 0 ? 'failing' : nowMs < retryAtMs ? 'open' : 'half-open'] += 1;
    return counts;
  }

  #failed(name: string): void {
    const known = this.#upstreams.get(name) ?? { failures: 0, retryAtMs: 0, trying: false };
    known.failures += 1;
    known.trying = false;
    this.#upstreams.delete(name);
    this.#upstreams.set(name, known);
    if (known.failures >= FAILURES) {
      if (known.retryAtMs === 0) this.#onOpened();
      known.retryAtMs = this.#now() + COOL_DOWN_MS;
    }
    const oldest = this.#upstreams.keys().next().value;
    if (this.#upstreams.size > UPSTREAMS_MAX && oldest !== undefined)
      this.#upstreams.delete(oldest);
  }
}

function shut(retryAfterMs: number): OutriderError {
  return refused(
    'UPSTREAM_UNREACHABLE',
    'the other side could not be reached lately: it is tried again after Retry-After',
    'breaker_open',
    { retryAfterMs },
  );
}
