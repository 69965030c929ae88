import {
  forgetAfterMs,
  type LeaseAnswer,
  type LeaseAsk,
  type LeaseStore,
  MEMBER_MS,
} from './lease-store.ts';

interface Shared {
  left: number;
  atMs: number;
  forgetMs: number;
  readonly members: Map<string, { seenMs: number; holds: number }>;
}

/**
 * Limits that several processes of one machine share, kept in the memory of one of them. What `redis-store.ts` does in Redis, it does
 * here, and one test holds both to the same.
 */
export class MemoryLeases {
  readonly #limits = new Map<string, Shared>();
  readonly #keepsBack: boolean;
  readonly #now: () => number;

  /** Without `keepsBack` nothing is left for who has none: whoever asks first has it, as in one process. */
  constructor(options: { readonly keepsBack?: boolean; readonly now?: () => number } = {}) {
    this.#keepsBack = options.keepsBack ?? true;
    this.#now = options.now ?? (() => performance.now());
  }

  /** The store as one of the processes sees it. */
  of(member: string): LeaseStore {
    return {
      available: true,
      ask: (asks) => Promise.resolve(asks.map((ask) => this.answer(member, ask))),
      close() {},
    };
  }

  /** Answers one ask of one process. */
  answer(member: string, ask: LeaseAsk): LeaseAnswer {
    const nowMs = this.#now();
    const shared = this.#find(ask, nowMs);
    shared.left = Math.min(ask.burst, shared.left + (nowMs - shared.atMs) / ask.intervalMs);
    shared.atMs = nowMs;
    shared.forgetMs = nowMs + forgetAfterMs(ask);
    shared.left -= ask.charge;
    const kept = this.#keepsBack ? keptBack(shared, member, nowMs) : 0;
    const granted = grant(ask.want, shared.left, kept);
    shared.left -= granted;
    const holds = ask.holds + granted;
    if (this.#keepsBack) shared.members.set(member, { seenMs: nowMs, holds });
    const short = 1 + kept - shared.left;
    return { granted, moreInMs: short <= 0 ? 0 : Math.ceil(short * ask.intervalMs) };
  }

  #find(ask: LeaseAsk, nowMs: number): Shared {
    const known = this.#limits.get(ask.key);
    if (known && known.forgetMs > nowMs) return known;
    const { answeredMs, burst, intervalMs } = ask;
    // Who was answered before knows that it was not whole then: the store has lost it.
    const left =
      answeredMs === undefined ? burst : Math.min(burst, Math.max(0, answeredMs) / intervalMs);
    const shared = { left, atMs: nowMs, forgetMs: nowMs, members: new Map() };
    this.#limits.set(ask.key, shared);
    if (this.#limits.size % 1_024 === 0)
      for (const [key, { forgetMs }] of this.#limits)
        if (forgetMs < nowMs) this.#limits.delete(key);
    return shared;
  }
}

/** One for each other process that has asked lately and holds none: who takes much leaves that. */
function keptBack({ members }: Shared, member: string, nowMs: number): number {
  let kept = 0;
  for (const [name, { seenMs, holds }] of members) {
    if (seenMs < nowMs - MEMBER_MS) members.delete(name);
    else if (name !== member && holds < 1) kept += 1;
  }
  return kept;
}

function grant(want: number, left: number, kept: number): number {
  if (want <= 0) return want;
  return Math.max(0, Math.min(want, Math.floor(left - kept)));
}
