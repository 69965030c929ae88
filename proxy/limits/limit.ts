import type { RateValue } from '#policies';

/** Whose requests are counted together. A closed list: it labels metrics. */
export const DIMENSIONS = [
  'rule',
  'principal',
  'role',
  'credential',
  'host',
  'datasource',
] as const;
export type Dimension = (typeof DIMENSIONS)[number];

/** One limit that a request must keep. */
export interface Limit {
  readonly dimension: Dimension;
  /** `requests` are taken before one goes out; `bytes` are paid for afterwards: who is in debt waits. */
  readonly unit: 'requests' | 'bytes';
  /** Whose it is, for all dimensions and units together. */
  readonly key: string;
  readonly rate: RateValue;
  /** So much at once; at least 1. */
  readonly burst: number;
}

/** What was taken for one request, or why nothing was. */
export type Taken =
  | {
      readonly ok: true;
      /** Counts bytes against every limit of bytes. */
      readonly spend: (bytes: number) => void;
    }
  | { readonly ok: false; readonly limit: Limit; readonly retryAfterMs: number };

/** Counts requests and bytes against limits. */
export interface Limiter {
  /** Takes one request of every limit, or nothing of any. A promise only where more may still be had from elsewhere. */
  take(limits: readonly Limit[]): Taken | Promise<Taken>;
  close(): Promise<void> | void;
}

/** The time in which one more comes, in milliseconds. */
export function intervalMs({ rate }: Limit): number {
  return rate.perMs / rate.count;
}
