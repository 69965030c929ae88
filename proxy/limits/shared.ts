import { afterTime } from '#core/http1/after-time';
import { Lease } from './lease.ts';
import type { LeaseStore } from './lease-store.ts';
import { type Limit, type Limiter, type Taken } from './limit.ts';

/** A request that would be refused otherwise is held so long for an answer of the store, */
const HOLD_MS = 50;
/** and so long for one that is sure to come. */
const HOLD_EXACT_MS = 5_000;
const SWEEP_MS = 250;
/** A limit that nobody used for so long is forgotten here; what was held of it is given back before. */
const FORGET_MS = 60_000;
const ASKS_MAX = 500;

export interface SharedLimitsOptions {
  readonly store: LeaseStore;
  /** How many proxies share the limits. Each may use an equal part of them while it cannot ask. */
  readonly proxies: number;
  /**
   * The store is near and never away, and what is given back there is at once another's. Of a limit that is slow against that (to 10/s)
   * nothing is held for later, so that nobody is refused what another holds unused; each request of it waits for one answer.
   */
  readonly exact?: boolean;
  readonly now?: () => number;
}

/**
 * Limits that several proxies keep together. Each holds a little of what it will need and fetches more in batches, so that a request
 * that may go does not wait; one that would be refused is held for an answer that is under way. Every request is counted in the
 * store before or when it is let through, so that all proxies together let through no more than one alone would; only who has kept
 * within an equal share may be ahead of that, by one request, which the store is told. While the store is away each lets through what it holds, and then an equal part of the rate.
 */
export class SharedLimits implements Limiter {
  readonly #store: LeaseStore;
  readonly #proxies: number;
  readonly #exact: boolean;
  readonly #now: () => number;
  readonly #leases = new Map<string, Lease>();
  readonly #dirty = new Set<Lease>();
  readonly #sweep: NodeJS.Timeout;
  #running: Promise<void> | undefined;
  #alone = false;

  constructor(options: SharedLimitsOptions) {
    const { store, proxies, exact = false, now = () => performance.now() } = options;
    this.#exact = exact;
    this.#store = store;
    this.#proxies = proxies;
    this.#now = now;
    this.#sweep = setInterval(() => this.#tidy(), SWEEP_MS).unref();
  }

  /** How many limits are remembered. */
  get size(): number {
    return this.#leases.size;
  }

  take(limits: readonly Limit[]): Taken | Promise<Taken> {
    this.#noticeStore(this.#now());
    const leases = limits.map((limit) => this.#leaseOf(limit));
    return this.#takeNow(leases) ?? this.#hold(leases);
  }

  async close(): Promise<void> {
    clearInterval(this.#sweep);
    await this.#running;
    await this.#store.close();
  }

  /** Takes of what is held; undefined where some of it must be asked for. */
  #takeNow(leases: readonly Lease[]): Taken | undefined {
    const nowMs = this.#now();
    this.#noticeStore(nowMs);
    const short = leases.filter((lease) => !lease.has());
    if (short.length > 0 && !this.#alone) return undefined;
    const waits = short.map((lease) => ({ lease, wait: lease.shareWaitMs(nowMs) }));
    const longest = waits.toSorted((a, b) => b.wait - a.wait)[0];
    if (longest && longest.wait > 0)
      return { ok: false, limit: longest.lease.limit, retryAfterMs: longest.wait };
    return this.#letThrough(leases, nowMs);
  }

  #letThrough(leases: readonly Lease[], nowMs: number): Taken {
    for (const lease of leases)
      if (lease.limit.unit === 'requests') {
        if (lease.has()) lease.use(1, nowMs);
        else lease.useShare(nowMs);
        this.#dirty.add(lease);
      }
    void this.#wake();
    return { ok: true, spend: (bytes) => this.#spend(leases, bytes) };
  }

  #spend(leases: readonly Lease[], bytes: number): void {
    for (const lease of leases)
      if (lease.limit.unit === 'bytes') {
        lease.use(bytes, this.#now());
        this.#dirty.add(lease);
      }
    if (this.#dirty.size > 0) void this.#wake();
  }

  /** Waits for answers while they could help, and not longer than the store may take. */
  async #hold(leases: readonly Lease[]): Promise<Taken> {
    const until = this.#now() + (this.#exact ? HOLD_EXACT_MS : HOLD_MS);
    for (;;) {
      const taken = this.#takeNow(leases);
      if (taken) return taken;
      const nowMs = this.#now();
      const short = leases.filter((lease) => !lease.has());
      const refused = short.find(
        (lease) => nowMs >= until || this.#isHopeless(lease, until, nowMs),
      );
      if (refused && short.every((lease) => lease.isSteady(nowMs)))
        return this.#letThrough(leases, nowMs);
      if (refused) {
        // What was fetched for it of the others is not needed.
        if (this.#exact) void this.#ask(leases);
        const retryAfterMs = Math.max(1, refused.moreInMs(nowMs));
        return { ok: false, limit: refused.limit, retryAfterMs };
      }
      await this.#more(short, until - nowMs);
    }
  }

  /** Waits until some more may be there of each. */
  async #more(short: readonly Lease[], forMs: number): Promise<void> {
    const later = Math.max(0, ...short.map((lease) => lease.moreInMs(this.#now())));
    for (const lease of short) lease.waits();
    const round = this.#ask(short);
    if (this.#exact) await round;
    else await (later > 0 ? sleep(later) : withinTime(round, forMs));
    for (const lease of short) lease.waitsNoLonger();
  }

  #ask(leases: readonly Lease[]): Promise<void> {
    for (const lease of leases) this.#dirty.add(lease);
    return this.#wake();
  }

  /** The store has said that there is none so soon. Who asks for less than the share is one for whom it keeps the next. */
  #isHopeless(lease: Lease, untilMs: number, nowMs: number): boolean {
    if (lease.mayHaveMore(nowMs)) return false;
    return this.#exact || nowMs + lease.moreInMs(nowMs) > untilMs || lease.shareWaitMs(nowMs) > 0;
  }

  /** Starts asking where nobody does; resolves when the round that is under way has ended. */
  #wake(): Promise<void> {
    this.#running ??= this.#round().finally(() => {
      this.#running = undefined;
      // What came up meanwhile.
      if (this.#dirty.size > 0 && this.#store.available) void this.#wake();
    });
    return this.#running;
  }

  /** Asks for all that is wanted, together. */
  async #round(): Promise<void> {
    // What else the same turn of the event loop wants comes along.
    await new Promise((resolve) => setImmediate(resolve));
    if (!this.#store.available) return;
    const nowMs = this.#now();
    const asks = [...this.#dirty].slice(0, ASKS_MAX).flatMap((lease) => {
      this.#dirty.delete(lease);
      const ask = lease.ask(nowMs);
      return ask ? [{ lease, ask }] : [];
    });
    if (asks.length === 0) return;
    try {
      const answers = await this.#store.ask(asks.map(({ ask }) => ask));
      for (const [index, { lease }] of asks.entries()) {
        const answer = answers[index];
        if (answer) lease.answered(answer, this.#now());
      }
    } catch {
      // The store says by `available` that it is away; whoever waits finds that out.
      for (const { lease, ask } of asks) lease.unanswered(ask);
    }
  }

  #leaseOf(limit: Limit): Lease {
    const known = this.#leases.get(limit.key);
    // A policy that has changed the limit begins with none of the old one.
    if (known && sameLimit(known.limit, limit)) return known;
    const lease = new Lease(limit, this.#proxies, this.#now(), this.#exact);
    if (this.#alone) lease.beginAlone(this.#now());
    this.#leases.set(limit.key, lease);
    return lease;
  }

  #noticeStore(nowMs: number): void {
    const alone = !this.#store.available;
    if (alone === this.#alone) return;
    this.#alone = alone;
    for (const lease of this.#leases.values()) {
      if (alone) lease.alone(nowMs);
      else {
        lease.together();
        this.#dirty.add(lease);
      }
    }
  }

  /** Tops up what is in use, gives back what is not, and forgets what nobody asked for in a minute. */
  #tidy(): void {
    const nowMs = this.#now();
    this.#noticeStore(nowMs);
    for (const [key, lease] of this.#leases) {
      if (nowMs - lease.usedAtMs > FORGET_MS) this.#leases.delete(key);
      else this.#dirty.add(lease);
    }
    if (this.#store.available && this.#dirty.size > 0) void this.#wake();
  }
}

function sameLimit(a: Limit, b: Limit): boolean {
  return a.burst === b.burst && a.rate.count === b.rate.count && a.rate.perMs === b.rate.perMs;
}

function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => {
    setTimeout(resolve, ms);
  });
}

/** Resolves with what is waited for, or after `ms`. */
function withinTime(waited: Promise<void>, ms: number): Promise<void> {
  return new Promise((resolve) => {
    const inTime = afterTime(ms, resolve);
    void waited.then(() => {
      inTime();
      resolve();
    });
  });
}
