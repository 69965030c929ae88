/** What one proxy wants of one limit that several proxies share. Amounts are requests or bytes. */
export interface LeaseAsk {
  /** Names the limit everywhere, and nobody. */
  readonly key: string;
  readonly intervalMs: number;
  readonly burst: number;
  /** So many more; fewer than 0 gives back. */
  readonly want: number;
  /** What has been used already without being asked for: it may overdraw. */
  readonly charge: number;
  /** What it holds unused. */
  readonly holds: number;
  /** How long ago it was last answered about this limit; undefined: never. */
  readonly answeredMs: number | undefined;
}

export interface LeaseAnswer {
  /** So many may be used; they are nobody else's. */
  readonly granted: number;
  /** After this time more may be had; 0: at once. */
  readonly moreInMs: number;
}

/** Where the proxies' one view of each limit is kept. */
export interface LeaseStore {
  /** False: there is no use in asking now. */
  readonly available: boolean;
  /** One answer for each, in order. Rejects where the store does not answer, soon. */
  ask(asks: readonly LeaseAsk[]): Promise<readonly LeaseAnswer[]>;
  close(): Promise<void> | void;
}

/** Who has asked within this time is kept one of each limit back for. */
export const MEMBER_MS = 30_000;

/** After this long an untouched limit is forgotten: it has been whole for a minute. */
export function forgetAfterMs({
  intervalMs,
  burst,
}: Pick<LeaseAsk, 'intervalMs' | 'burst'>): number {
  return Math.ceil(intervalMs * burst) + 60_000;
}
