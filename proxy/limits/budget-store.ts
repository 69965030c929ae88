/** What one proxy wants of one budget that several proxies share. Amounts are requests or bytes. */
export interface BudgetAsk {
  /** Names the account, its unit and its period everywhere, and nobody. */
  readonly key: string;
  /** Names who asks, among all who ever ask for this account. */
  readonly by: string;
  /** Grows with each ask of `by`: one that comes late changes nothing. */
  readonly turn: number;
  /** So long what is said is kept, in milliseconds. */
  readonly keepMs: number;
  readonly limit: number;
  /** All that `by` has used of it so far: said anew each time, so that no answer can be lost. */
  readonly used: number;
  /** That, and what it holds unused. */
  readonly total: number;
  /** So many more. */
  readonly want: number;
}

export interface BudgetAnswer {
  /** So many may be used; they are nobody else's. */
  readonly granted: number;
  /** What nobody holds. */
  readonly left: number;
  /** Whether everything is used, not only held. */
  readonly isUsedUp: boolean;
  /** Whether the store knew what `by` has said before. */
  readonly isKnown: boolean;
  /** Another one than before: the store has forgotten everything meanwhile. */
  readonly epoch: string;
}

/** Where the proxies' one view of each budget is kept. */
export interface BudgetStore {
  /** False: there is no use in asking now. */
  readonly available: boolean;
  /** Tells `listener`, and nobody else from then on, each time that the store becomes available: it may have forgotten everything. */
  watch(listener: () => void): void;
  /** One answer for each, in order; undefined where there is none for that one. Rejects where the store does not answer, soon. */
  ask(asks: readonly BudgetAsk[]): Promise<readonly (BudgetAnswer | undefined)[]>;
  close(): Promise<void> | void;
}
