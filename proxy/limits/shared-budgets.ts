import { createHash } from 'node:crypto';
import { accountOf, type Budget, type BudgetCounter, type Spender, type Spending } from '#policies';
import { Holding } from './budget-holding.ts';
import type { BudgetStore } from './budget-store.ts';

const SWEEP_MS = 250;
/** Whoever has used anything asks this often at least, and hears whether the store has forgotten. */
const HEAR_MS = 1_000;
/** So long nobody takes more of a store that has forgotten: within it all others hear that, too, and tell what they have. */
const DOUBT_MS = 5_000;
/** Of one round: as many answers are soon there. */
const ASKS_MAX = 500;
/** Of the hash that stands for an account in the store, which learns no names. */
const KEY_LENGTH = 24;
/** What others hold, or who keeps it, may be back by then. */
const RETRY_MS = 1_000;
/** Others may have what was fetched before whoever waited for it; nobody is that unlucky so often. */
const ASKED_MAX = 100;
/** So often in a row there may be no answer before a request is refused. */
const UNANSWERED_MAX = 3;

/**
 * Budgets that several proxies keep together. Each holds some of what is left, and asks for more before it is used up, so that only the
 * first request of an account waits for the store, and its last ones, of which nothing is held ahead. Everything is counted there
 * before it is used, so that all together never let more requests through than the budget has; of bytes each process may let 1 MiB more
 * through. While the store is away each goes on with what it holds, and refuses what is beyond.
 */
export class SharedBudgets implements BudgetCounter {
  readonly #store: BudgetStore;
  readonly #member: string;
  readonly #proxies: number;
  readonly #now: () => number;
  readonly #wall: () => number;
  readonly #holdings = new Map<string, Holding>();
  /** Somebody waits for these, */
  readonly #urgent = new Set<Holding>();
  /** and nobody for these. */
  readonly #dirty = new Set<Holding>();
  readonly #sweep: NodeJS.Timeout;
  #made = 0;
  #epoch: string | undefined;
  #heardAtMs = Number.NEGATIVE_INFINITY;
  /** A connection is new, and nothing was heard over it. */
  #isNew = false;
  #doubtsUntilMs = Number.NEGATIVE_INFINITY;
  #running: Promise<void> | undefined;

  /** `member`: a name that no proxy has ever had. `proxies`: how many share the budgets. */
  constructor(options: {
    readonly store: BudgetStore;
    readonly member: string;
    readonly proxies: number;
    readonly now?: () => number;
    readonly wall?: () => number;
  }) {
    const { store, member, proxies, now = () => performance.now(), wall = Date.now } = options;
    this.#store = store;
    this.#member = member;
    this.#proxies = proxies;
    this.#now = now;
    this.#wall = wall;
    store.watch(() => this.#begin());
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
    this.#store.watch(() => {});
    await this.#settled();
    this.#dirty.clear();
    for (const holding of this.#holdings.values())
      if (holding.giveBack() || holding.isUntold) this.#dirty.add(holding);
    for (let rounds = Math.ceil(this.#dirty.size / ASKS_MAX); rounds > 0; rounds--)
      await this.#wake();
    this.#dirty.clear();
    await this.#settled();
    await this.#store.close();
  }

  /** Resolves when nothing is asked. */
  async #settled(): Promise<void> {
    for (let running = this.#running; running; running = this.#running) await running;
  }

  async #afterAsking(holdings: readonly Holding[], nowMs: number): Promise<Spending> {
    let unanswered = 0;
    for (let asked = 0; ; asked++) {
      const short = holdings.filter((holding) => !holding.has());
      const [first] = short;
      if (!first) return this.#letThrough(holdings);
      const empty = short.find((holding) => holding.isEmpty(this.#now()));
      const isInDoubt = !this.#isNew && short.some((holding) => holding.isInDoubt(this.#now()));
      const isHopeless = isInDoubt || asked === ASKED_MAX || unanswered === UNANSWERED_MAX;
      if (empty || isHopeless || !this.#store.available) return refused(empty ?? first, nowMs);
      for (const holding of short) holding.waits();
      await this.#askNow(short);
      for (const holding of short) holding.waitsNoLonger();
      unanswered = short.every((holding) => holding.isAnswered) ? 0 : unanswered + 1;
    }
  }

  #letThrough(holdings: readonly Holding[]): Spending {
    for (const holding of holdings) if (holding.account.unit === 'requests') this.#use(holding, 1);
    const bytesOf = holdings.filter(({ account }) => account.unit === 'bytes');
    return {
      ok: true,
      spend: (bytes) => {
        for (const holding of bytesOf) this.#use(holding, bytes);
        return bytesOf.every((holding) => holding.isOpen());
      },
    };
  }

  #use(holding: Holding, amount: number): void {
    if (!holding.use(amount, this.#now())) return;
    this.#dirty.add(holding);
    void this.#wake();
  }

  /** Resolves when all of these were asked for, or nobody can be asked. */
  async #askNow(holdings: readonly Holding[]): Promise<void> {
    for (const holding of holdings) this.#urgent.add(holding);
    do await this.#wake();
    while (this.#store.available && holdings.some((holding) => this.#urgent.has(holding)));
  }

  /** Starts asking where nobody does; resolves when the round that is under way has ended. Never rejects. */
  #wake(): Promise<void> {
    this.#running ??= this.#round().finally(() => {
      this.#running = undefined;
      if (this.#urgent.size + this.#dirty.size > 0 && this.#store.available) void this.#wake();
    });
    return this.#running;
  }

  /** Asks for what is wanted, together. */
  async #round(): Promise<void> {
    // What else the same turn of the event loop wants comes along.
    await new Promise((resolve) => setImmediate(resolve));
    if (!this.#store.available) {
      this.#urgent.clear(); // whoever waits finds out
      return;
    }
    // Of a new connection one answer tells whether the others are to be in doubt.
    const wanted = this.#isNew
      ? [...this.#dirty, ...this.#urgent].slice(0, 1)
      : [...this.#urgent, ...this.#dirty].slice(0, ASKS_MAX);
    const holdings = [...new Set(wanted)];
    for (const holding of holdings) {
      this.#urgent.delete(holding);
      this.#dirty.delete(holding);
    }
    const asks = holdings.map((holding) => holding.ask(this.#now(), this.#wall()));
    try {
      const answers = await this.#store.ask(asks);
      const isForgotten = this.#hear(answers.find((answer) => answer !== undefined)?.epoch);
      for (const [index, holding] of holdings.entries()) {
        const [ask, answer] = [asks[index], answers[index]];
        if (!ask || !answer || !holding.answered(ask, answer, isForgotten, this.#now())) continue;
        holding.doubt(this.#now() + DOUBT_MS);
        this.#dirty.add(holding);
      }
      if (answers.some((answer) => answer !== undefined)) this.#heardAtMs = this.#now();
    } catch {
      // The store says by `available` that it is away; whoever waits finds that out. All is said again with the next ask.
    }
  }

  /** The store behind a new connection may be another one, or have forgotten. */
  #begin(): void {
    if (this.#epoch === undefined) return;
    this.#isNew = true;
    this.#doubtAll();
    this.#askAny();
  }

  /** Whether the store has forgotten everything since it was heard last. */
  #hear(epoch: string | undefined): boolean {
    if (epoch === undefined) return false;
    const isForgotten = this.#epoch !== undefined && this.#epoch !== epoch;
    if (isForgotten) {
      this.#doubtAll();
      for (const holding of this.#holdings.values()) this.#dirty.add(holding);
    } else if (this.#isNew) {
      this.#doubtsUntilMs = Number.NEGATIVE_INFINITY;
      for (const holding of this.#holdings.values()) holding.believe();
    }
    this.#isNew = false;
    this.#epoch = epoch;
    return isForgotten;
  }

  #doubtAll(): void {
    this.#doubtsUntilMs = this.#now() + DOUBT_MS;
    for (const holding of this.#holdings.values()) holding.doubt(this.#doubtsUntilMs);
  }

  /** Asks about one account: the answer tells of the store. */
  #askAny(): void {
    const [any] = this.#holdings.values();
    if (!any) return;
    this.#dirty.add(any);
    void this.#wake();
  }

  #holdingsOf(budget: Budget, spender: Spender, nowMs: number): Holding[] {
    const { key, endsMs } = accountOf(budget, spender, nowMs);
    return (['requests', 'bytes'] as const).flatMap((unit) => {
      const limit = budget[unit];
      if (limit === undefined) return [];
      // What was granted under another limit is nothing to go by: two policies may be in force, one of them on trial.
      const name = `${limit} ${unit} ${endsMs} ${key}`;
      const known = this.#holdings.get(name);
      if (known) return [known];
      const holding = new Holding(
        {
          key: hashOf(`${unit} ${endsMs} ${key}`),
          budget: budget.id,
          unit,
          limit,
          endsMs,
          proxies: this.#proxies,
        },
        `${this.#member}:${++this.#made}`,
        this.#now(),
      );
      holding.doubt(this.#doubtsUntilMs);
      this.#holdings.set(name, holding);
      return [holding];
    });
  }

  /** Follows what is left, gives back what is not used, and forgets what is over. */
  #tidy(): void {
    const [nowMs, wallMs] = [this.#now(), this.#wall()];
    for (const [name, holding] of this.#holdings) {
      if (holding.isOver(wallMs)) {
        this.#holdings.delete(name);
        this.#dirty.delete(holding);
      } else if (
        holding.isStale(nowMs) ||
        // Nobody can be told while the store is away: it is of use here then.
        (this.#store.available && holding.isIdle(nowMs) && holding.giveBack())
      )
        this.#dirty.add(holding);
    }
    if (!this.#store.available) return;
    if (nowMs - this.#heardAtMs > HEAR_MS) this.#askAny();
    if (this.#dirty.size > 0) void this.#wake();
  }
}

/** Until the end of the period, unless something may come back before that. */
function refused({ account, isUsedUp }: Holding, nowMs: number): Spending {
  const endsInMs = Math.max(1, account.endsMs - nowMs);
  const retryAfterMs = isUsedUp ? endsInMs : Math.min(RETRY_MS, endsInMs);
  return { ok: false, budget: account.budget, retryAfterMs };
}

function hashOf(text: string): string {
  return createHash('sha256').update(text).digest('base64url').slice(0, KEY_LENGTH);
}
