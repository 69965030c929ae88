import type { AuditHead } from '#core/audit';
import type { ErrorCode } from '#core/errors';
import type { MetricsSnapshot } from '#core/metrics';
import type { SigningKey } from '#core/tokens';
import type { Taken } from '../audit-sink.ts';
import type { ProxyConfig } from '../config.ts';
import type { Countable, CountedOut } from '../counts.ts';
import type { LeaseAnswer, LeaseAsk } from '../limits/lease-store.ts';
import type { Use } from '../used-once.ts';

// What a worker and its primary say to each other, all of it plain data.

/** What a worker begins with. */
export interface Begin {
  readonly config: ProxyConfig;
  /** From 1. */
  readonly number: number;
  /** One with this number has served before. */
  readonly again: boolean;
  readonly exchangeKey: SigningKey;
  readonly proxyId: string;
}

/** `id` names what is counted until it is released; null where nothing is. */
export type CountAnswer = CountedOut | { readonly ok: true; readonly id: number | null };

/** Bytes of what is counted, and what has ended, since the last time. */
export interface Counting {
  readonly spent: readonly (readonly [id: number, bytes: number])[];
  readonly released: readonly number[];
}

export type DeliveryAnswer =
  | { readonly ok: true; readonly taken: Taken }
  | {
      readonly ok: false;
      readonly code: ErrorCode;
      readonly message: string;
      readonly cause: string | undefined;
      /** Of AUDIT_GAP. */
      readonly acknowledged: AuditHead | null;
    };

/** What /readyz says of one worker. */
export interface Status {
  readonly problems: Readonly<Record<string, string>>;
  readonly info: Readonly<Record<string, unknown>>;
}

/** What a worker asks its primary. */
export interface PrimaryDoor {
  begin(value: null): Begin;
  /** It serves at this address. */
  started(address: string): void;
  /** It cannot. */
  failed(error: { readonly code: ErrorCode; readonly message: string }): void;
  /** `LeaseStore.ask`. */
  lease(asks: readonly LeaseAsk[]): readonly LeaseAnswer[];
  /** Rates are leased, not counted. */
  count(countable: Countable): CountAnswer | Promise<CountAnswer>;
  counting(news: Counting): void;
  deliver(delivery: {
    readonly sandboxId: string;
    readonly body: string;
    readonly owner: string;
  }): DeliveryAnswer;
  useOnce(what: { readonly kind: 'token' | 'proof'; readonly key: string }): Use;
  /** What was delivered is to be on the disk. */
  flush(value: null): void;
}

/** What the primary asks a worker. */
export interface WorkerDoor {
  /** These have used up a budget and must end. */
  usedUp(ids: readonly number[]): void;
  metrics(value: null): Promise<MetricsSnapshot>;
  status(value: null): Promise<Status>;
}
