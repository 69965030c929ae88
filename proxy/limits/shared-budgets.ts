import { createHash } from 'node:crypto';
import { accountOf, type Budget, type BudgetCounter, type Spender, type Spending } from '#policies';
import type { BudgetAnswer, BudgetAsk, BudgetStore } from './budget-store.ts';

/** Held ahead is this part of a proxy's share of what is left: what one that dies holds is nobody's until the period is over. */
const AHEAD_SHARE = 4;
/** Bytes are fetched at least so many at a time, if that is not more than such a part of the whole budget, */
const BYTES_AHEAD = 65_536;
/** and so many may pass while an answer is under way. */
const BYTES_OVER = 1_048_576;
/** Who is refused because nothing was left is not asked for again before this time is over. */
const EMPTY_MS = 100;
/** What is in use is asked about this often, so that what is held follows what is left. */
const REFRESH_MS = 1_000;
/** What nobody used for so long is given back. */
const IDLE_MS = 5_000;
const SWEEP_MS = 250;
const ASKS_MAX = 500;
/** Of the hash that stands for an account in the store, which learns no names. */
const KEY_LENGTH = 24;
/** While nobody can be asked: soon enough to be tried again. */
const AWAY_RETRY_MS = 1_000;
/** Others may have what was fetched before whoever waited for it; nobody is that unlucky so often. */
const ASKED_MAX = 100;

/**
 * Budgets that several proxies keep together. Each holds some of what is left, and asks for more before it is used up, so that only the
 * first request of an account waits for the store, and its last ones, of which nothing is held ahead. Everything is counted there
 * before it is used, so that all together never let more requests through than the budget has; of bytes each proxy may let 1 MiB more
 * through. While the store is away each goes on with what it holds, and refuses what is beyond.
 */
export class SharedBudgets implements BudgetCounter {
  readonly #store: BudgetStore;
  readonly #proxies: number;
  readonly #now: () => number;
  readonly #holdings = new Map<string, Holding>();
  readonly #dirty = new Set<Holding>();
  readonly #sweep: NodeJS.Timeout;
  #running: Promise<void> | undefined;
  #connections = 0;

  /** `proxies`: how many share the budgets. */
  constructor(options: {
    readonly store: BudgetStore;
    readonly proxies: number;
    readonly now?: () => number;
  }) {
    const { store, proxies, now = () => performance.now() } = options;
    this.#store = store;
    this.#proxies = proxies;
    this.#now = now;
    this.#sweep = setInterval(() => this.#tidy(), SWEEP_MS).unref();
  }

  /** How many accounts are remembered; one of requests and one of bytes are two. */
  get size(): number {
    return this.#holdings.size;
  }

  take(budgets: readonly Budget[], spender: Spender, nowMs: number): Spending | Promise<Spending> {
    const holdings = budgets.flatMap((budget) => this.#holdingsOf(budget, spender, nowMs));
    if (holdings.every((holding) => holding.has())) return this.#letThrough(holdings);
    return this.#afterAsking(holdings, nowMs);
  }

  /** Gives back what is held. */
  async close(): Promise<void> {
    clearInterval(this.#sweep);
    await this.#running;
    for (const holding of this.#holdings.values()) {
      holding.giveBack();
      this.#dirty.add(holding);
    }
    while (this.#dirty.size > 0 && this.#store.available) await this.#round();
    await this.#store.close();
  }

  async #afterAsking(holdings: readonly Holding[], nowMs: number): Promise<Spending> {
    for (let asked = 0; ; asked++) {
      const short = holdings.filter((holding) => !holding.has());
      const [first] = short;
      if (!first) return this.#letThrough(holdings);
      const empty = short.find((holding) => holding.isEmpty(this.#now()));
      if (empty) return refused(empty, Math.max(1, empty.endsMs - nowMs));
      if (!this.#store.available || asked === ASKED_MAX)
        return refused(first, Math.min(AWAY_RETRY_MS, Math.max(1, first.endsMs - nowMs)));
      for (const holding of short) holding.waits();
      await this.#ask(short);
      for (const holding of short) holding.waitsNoLonger();
    }
  }

  #letThrough(holdings: readonly Holding[]): Spending {
    for (const holding of holdings) if (holding.unit === 'requests') this.#use(holding, 1);
    const bytesOf = holdings.filter(({ unit }) => unit === 'bytes');
    return {
      ok: true,
      spend: (bytes) => {
        for (const holding of bytesOf) this.#use(holding, bytes);
        return bytesOf.every((holding) => holding.isOpen());
      },
    };
  }

  #use(holding: Holding, amount: number): void {
    if (holding.use(amount, this.#now())) void this.#ask([holding]);
  }

  #ask(holdings: readonly Holding[]): Promise<void> {
    for (const holding of holdings) this.#dirty.add(holding);
    return this.#wake();
  }

  /** Starts asking where nobody does; resolves when the round that is under way has ended. */
  #wake(): Promise<void> {
    this.#running ??= this.#round().finally(() => {
      this.#running = undefined;
      if (this.#dirty.size > 0 && this.#store.available) void this.#wake();
    });
    return this.#running;
  }

  /** Asks for all that is wanted, together. */
  async #round(): Promise<void> {
    // What else the same turn of the event loop wants comes along.
    await new Promise((resolve) => setImmediate(resolve));
    if (!this.#store.available) return;
    this.#tellAgain();
    const asking = [...this.#dirty].slice(0, ASKS_MAX);
    for (const holding of asking) this.#dirty.delete(holding);
    try {
      const answers = await this.#store.ask(asking.map((holding) => holding.ask()));
      for (const [index, holding] of asking.entries()) {
        const answer = answers[index];
        if (answer) holding.answered(answer, this.#now());
      }
    } catch {
      // The store says by `available` that it is away; whoever waits finds that out. All is said again with the next ask.
    }
  }

  #holdingsOf(budget: Budget, spender: Spender, nowMs: number): Holding[] {
    const { key, endsMs } = accountOf(budget, spender, nowMs);
    return (['requests', 'bytes'] as const).flatMap((unit) => {
      const limit = budget[unit];
      if (limit === undefined) return [];
      const name = `${unit} ${endsMs} ${key}`;
      const known = this.#holdings.get(name);
      if (known) {
        // A policy that has changed the budget counts on in the same account.
        known.limit = limit;
        return [known];
      }
      const told = createHash('sha256').update(name).digest('base64url').slice(0, KEY_LENGTH);
      const holding = new Holding(told, budget.id, unit, limit, endsMs, this.#proxies, this.#now());
      this.#holdings.set(name, holding);
      return [holding];
    });
  }

  /** Follows what is left, gives back what is not used, and forgets what is over. */
  #tidy(): void {
    const nowMs = this.#now();
    for (const [name, holding] of this.#holdings) {
      if (holding.endsMs <= Date.now()) this.#holdings.delete(name);
      else if (holding.isIdle(nowMs)) {
        if (holding.giveBack()) this.#dirty.add(holding);
      } else if (holding.isStale(nowMs)) this.#dirty.add(holding);
    }
    this.#tellAgain();
    if (this.#store.available && this.#dirty.size > 0) void this.#wake();
  }

  /** A store behind a new connection may know nothing, also not of what nobody uses now. */
  #tellAgain(): void {
    if (this.#connections === this.#store.connections) return;
    this.#connections = this.#store.connections;
    for (const holding of this.#holdings.values()) this.#dirty.add(holding);
  }
}

function refused({ budget }: Holding, retryAfterMs: number): Spending {
  return { ok: false, budget, retryAfterMs };
}

/** What one proxy has of one budget. */
class Holding {
  readonly budget: string;
  readonly unit: 'requests' | 'bytes';
  readonly endsMs: number;
  limit: number;
  readonly #key: string;
  readonly #proxies: number;
  /** Granted and not used; of bytes below 0 where more was used than granted. */
  #held = 0;
  #used = 0;
  /** What nobody held when the store last answered; undefined: it never has. */
  #left: number | undefined;
  #answeredAtMs = Number.NEGATIVE_INFINITY;
  #usedAtMs: number;
  #waiting = 0;
  /** Until it is used again, nothing is held. */
  #isGivenBack = false;

  constructor(
    key: string,
    budget: string,
    unit: 'requests' | 'bytes',
    limit: number,
    endsMs: number,
    proxies: number,
    nowMs: number,
  ) {
    this.#key = key;
    this.budget = budget;
    this.unit = unit;
    this.limit = limit;
    this.endsMs = endsMs;
    this.#proxies = proxies;
    this.#usedAtMs = nowMs;
  }

  /** Whether one more request may be let through now. */
  has(): boolean {
    return this.#held >= 1;
  }

  /** Whether what is under way may go on: until nothing is left anywhere, or too much was used without an answer. */
  isOpen(): boolean {
    return this.#held >= 0 || (this.#left !== 0 && -this.#held <= BYTES_OVER);
  }

  /** Whether the store has just said that nothing is left. */
  isEmpty(nowMs: number): boolean {
    return this.#left === 0 && nowMs - this.#answeredAtMs < EMPTY_MS;
  }

  isIdle(nowMs: number): boolean {
    return this.#waiting === 0 && nowMs - this.#usedAtMs > IDLE_MS;
  }

  isStale(nowMs: number): boolean {
    return nowMs - this.#answeredAtMs > REFRESH_MS;
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
    this.#held -= amount;
    this.#used += amount;
    this.#usedAtMs = nowMs;
    this.#isGivenBack = false;
    return this.#left !== 0 && this.#held < this.#ahead() / 2;
  }

  /** Whether there was anything to give back; the next ask does it. */
  giveBack(): boolean {
    const had = this.#held > 0;
    this.#held = Math.min(0, this.#held);
    this.#isGivenBack = true;
    return had;
  }

  /** What was used beyond what was granted is said as used, and then is neither owed nor held. */
  ask(): BudgetAsk {
    const target = this.#isGivenBack ? 0 : this.#ahead() + this.#waiting;
    // What is more than twice of it is of use to others.
    this.#held = Math.max(0, Math.min(this.#held, 2 * target));
    return {
      key: this.#key,
      endsMs: this.endsMs,
      limit: this.limit,
      total: this.#used + this.#held,
      want: Math.max(0, target - this.#held),
    };
  }

  answered({ granted, left }: BudgetAnswer, nowMs: number): void {
    this.#held += granted;
    this.#left = left;
    this.#answeredAtMs = nowMs;
  }

  #ahead(): number {
    const left = (this.#left ?? this.limit) + Math.max(0, this.#held);
    const share = this.#shareOf(left);
    return this.unit === 'bytes'
      ? Math.max(share, Math.min(BYTES_AHEAD, this.#shareOf(this.limit)))
      : share;
  }

  #shareOf(amount: number): number {
    return Math.floor(amount / (AHEAD_SHARE * this.#proxies));
  }
}
