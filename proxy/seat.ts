import type { ReadyCheck } from '#core/http';
import type { SigningKey } from '#core/tokens';
import type { AuditStore } from './audit-sink.ts';
import type { ClosableBudgets, Counts } from './counts.ts';
import type { LeaseStore } from './limits/lease-store.ts';
import type { Limiter } from './limits/limit.ts';
import type { OnceStore } from './used-once.ts';

/** What a worker, of which a proxy may have several, has from the process that started it instead of something of its own. */
export interface Seat {
  /** From 1; names the files of its audit. */
  readonly number: number;
  /** It takes the place of one that has ended, while others serve. */
  readonly again: boolean;
  readonly exchangeKey: SigningKey;
  /** What a token for one request calls the proxy, whichever worker made it. */
  readonly proxyId: string;
  /** Where all workers remember those, and proofs of keys. */
  readonly usedTokens: OnceStore;
  readonly usedProofs: OnceStore;
  readonly sink: AuditStore;
  /** Where all workers keep rates together. */
  readonly leases: LeaseStore;
  /** Counts what is not a rate where all do, rates as `limiter` does, and budgets as `budgets` where there are any. */
  readonly counts: (limiter: Limiter, budgets: ClosableBudgets | undefined) => Counts;
  /** Is told what /readyz would say: it answers that for all workers. */
  readonly readiness: (
    checks: readonly ReadyCheck[],
    info: () => Readonly<Record<string, unknown>>,
  ) => void;
}
