/** What one proxy wants of one budget that several proxies share. Amounts are requests or bytes. */
export interface BudgetAsk {
  /** Names the account, its unit and its period everywhere, and nobody. */
  readonly key: string;
  /** When the period is over, of the wall clock. */
  readonly endsMs: number;
  readonly limit: number;
  /** All that this proxy has used of it so far, and what it holds unused: said anew each time, so that no answer can be lost. */
  readonly total: number;
  /** So many more. */
  readonly want: number;
}

export interface BudgetAnswer {
  /** So many may be used; they are nobody else's. */
  readonly granted: number;
  /** What nobody holds. */
  readonly left: number;
}

/** Where the proxies' one view of each budget is kept. */
export interface BudgetStore {
  /** False: there is no use in asking now. */
  readonly available: boolean;
  /** How often it has become available: each time it may have forgotten everything. */
  readonly connections: number;
  /** One answer for each, in order. Rejects where the store does not answer, soon. */
  ask(asks: readonly BudgetAsk[]): Promise<readonly BudgetAnswer[]>;
  close(): Promise<void> | void;
}
