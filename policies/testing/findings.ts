/** What a run came to. */
export interface Findings {
  readonly cases: number;
  /** One line each; none is what is wanted. */
  readonly differences: readonly string[];
  /** How often each outcome came up, so that a run that looks at nothing is seen. */
  readonly seen: ReadonlyMap<string, number>;
}
