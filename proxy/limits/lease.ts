import { createHash } from 'node:crypto';
import { count, type Gcra, waitMs } from './gcra.ts';
import { type LeaseAnswer, type LeaseAsk, MEMBER_MS } from './lease-store.ts';
import { intervalMs, type Limit } from './limit.ts';

/** Fetched ahead is twice what was used since the last time, at most what the rate brings in this time: others want some, too. */
const AHEAD_MS = 100;
/** Bytes are fetched at least so many at a time. */
const QUANTUM_SHARE = 1 / 64;
/** Who has let nothing through for so many intervals of the share has to ask first. */
const STEADY_INTERVALS = 4;
/** Unused for so long, what was fetched ahead is given back, but for one. */
const IDLE_MS = 1_000;

/** What one proxy holds of one limit that it shares with others, and what it may use while it cannot ask. */
export class Lease {
  readonly limit: Limit;
  readonly #key: string;
  readonly #exact: boolean;
  readonly #interval: number;
  /** What an equal share of the limit allows, of what this proxy let through. */
  readonly #share: Gcra;
  readonly #shareInterval: number;
  readonly #shareBurst: number;
  #tokens = 0;
  /** Let through without having been granted: to be told the store. */
  #owed = 0;
  /** Asked for and not answered yet. */
  #asked = false;
  #usedSince = 0;
  /** Requests that are held until there is more. */
  #waiting = 0;
  #alone = false;
  #usedAtMs: number;
  #letThroughAtMs: number | undefined;
  #answeredAtMs: number | undefined;
  #moreAtMs: number;

  /** `proxies`: how many share the limit; `exact`: nothing that is scarce is held for later. */
  constructor(limit: Limit, proxies: number, nowMs: number, exact = false) {
    this.limit = limit;
    this.#exact = exact && limit.unit === 'requests';
    this.#key = createHash('sha256').update(limit.key).digest('base64url').slice(0, 24);
    this.#interval = intervalMs(limit);
    this.#share = { dueMs: nowMs };
    this.#shareInterval = this.#interval * proxies;
    this.#shareBurst = Math.max(1, Math.floor(limit.burst / proxies));
    this.#usedAtMs = nowMs;
    this.#moreAtMs = nowMs;
  }

  get usedAtMs(): number {
    return this.#usedAtMs;
  }

  /** Whether one more may be let through now; with bytes, whether what was used is paid for. */
  has(): boolean {
    return this.limit.unit === 'requests' ? this.#tokens >= 1 : this.#tokens > 0;
  }

  /** Uses so many of what is held; of bytes also more than that. */
  use(amount: number, nowMs: number): void {
    this.#tokens -= amount;
    // What was granted before the store went away comes on top of the share.
    const granted = this.#alone && this.limit.unit === 'requests';
    this.#used(granted ? 0 : amount, nowMs);
  }

  /** How long until the share of this proxy alone lets one more through; 0: now. */
  shareWaitMs(nowMs: number): number {
    return waitMs(this.#share, this.#shareInterval, this.#shareBurst, nowMs);
  }

  /**
   * Whether it has been used lately, and all the time within the share: who asks for no more than that is never refused because
   * others take the rest, nor because the store has just gone away.
   */
  isSteady(nowMs: number): boolean {
    const sinceMs = nowMs - (this.#letThroughAtMs ?? Number.NEGATIVE_INFINITY);
    return (
      !this.#exact &&
      this.limit.unit === 'requests' &&
      sinceMs >= this.#shareInterval &&
      sinceMs <= this.#shareInterval * STEADY_INTERVALS &&
      this.shareWaitMs(nowMs) === 0
    );
  }

  /** Lets one through on the share: the store is told when it can be. */
  useShare(nowMs: number): void {
    this.#owed += 1;
    this.#used(1, nowMs);
  }

  /** From now on there is nobody to ask: the share holds nothing but what comes from here on, so that all of them together keep the limit. */
  alone(nowMs: number): void {
    this.#alone = true;
    if (this.#tokens >= 1) this.#share.dueMs = nowMs + this.#shareInterval * this.#shareBurst;
    else
      this.#share.dueMs = Math.max(
        this.#share.dueMs,
        this.#usedAtMs + this.#shareInterval * this.#shareBurst,
      );
  }

  /** The store is there again. */
  together(): void {
    this.#alone = false;
  }

  /** Nobody can say what the others have let through: one at once, and then as much as comes. */
  beginAlone(nowMs: number): void {
    this.#alone = true;
    this.#share.dueMs = nowMs + this.#shareInterval * (this.#shareBurst - 1);
  }

  /** Somebody needs one and there is none: until `waitsNoLonger` one is asked for. */
  waits(): void {
    this.#waiting += 1;
  }

  waitsNoLonger(): void {
    this.#waiting -= 1;
  }

  /** Whether asking could help. */
  mayHaveMore(nowMs: number): boolean {
    return this.#asked || nowMs >= this.#moreAtMs;
  }

  /** When the store has more, at the earliest. */
  moreInMs(nowMs: number): number {
    return Math.max(0, this.#moreAtMs - nowMs);
  }

  /** What to ask the store now; undefined: nothing. */
  ask(nowMs: number): LeaseAsk | undefined {
    if (this.#asked) return undefined;
    const want = this.#want(nowMs);
    const charge = this.#owed;
    if (want === 0 && charge === 0) return undefined;
    this.#asked = true;
    this.#owed = 0;
    this.#usedSince = 0;
    if (want < 0) this.#tokens += want;
    const leaving = this.#waiting === 0 && nowMs - this.#usedAtMs > MEMBER_MS;
    return {
      key: this.#key,
      intervalMs: this.#interval,
      burst: this.limit.burst,
      want,
      charge,
      // Who has gone needs nothing kept back.
      holds: leaving ? 1 : Math.max(0, this.#tokens),
      answeredMs: this.#answeredAtMs === undefined ? undefined : nowMs - this.#answeredAtMs,
    };
  }

  answered({ granted, moreInMs }: LeaseAnswer, nowMs: number): void {
    this.#asked = false;
    this.#answeredAtMs = nowMs;
    this.#moreAtMs = nowMs + moreInMs;
    if (granted > 0) this.#tokens += granted;
  }

  /** The store did not answer: what was owed may or may not have been told, and is told again. */
  unanswered({ charge }: LeaseAsk): void {
    this.#asked = false;
    this.#owed += charge;
  }

  #used(amount: number, nowMs: number): void {
    this.#usedSince += amount;
    this.#usedAtMs = nowMs;
    this.#letThroughAtMs = nowMs;
    count(this.#share, this.#shareInterval, amount, nowMs);
  }

  #want(nowMs: number): number {
    const idleMs = nowMs - this.#usedAtMs;
    const held = Math.max(0, Math.floor(this.#tokens));
    const most = Math.floor(AHEAD_MS / this.#interval);
    if (this.#exact) {
      const unused = held - this.#waiting - (idleMs > IDLE_MS ? 0 : most);
      if (unused > 0) return -unused;
    }
    // Who waits has come back.
    if (idleMs > MEMBER_MS && this.#waiting === 0) return -held;
    const least = this.#least();
    if (idleMs > IDLE_MS && held > least) return least - held;
    if (nowMs < this.#moreAtMs) return 0;
    const ahead = Math.min(2 * this.#usedSince, most);
    const target = Math.max(least, idleMs > IDLE_MS ? 0 : ahead) + this.#waiting;
    // Not for every single one: half of what is fetched ahead may go first.
    if (this.has() && this.#tokens > target / 2) return 0;
    return Math.max(0, Math.ceil(target - this.#tokens));
  }

  /** To be held in any case. */
  #least(): number {
    if (this.limit.unit === 'bytes') return Math.ceil(this.limit.burst * QUANTUM_SHARE);
    return this.#exact ? 0 : 1;
  }
}
