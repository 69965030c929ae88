/** Figures that belong together because one run gives them all. */
export interface Group {
  readonly figures: readonly string[];
  /** Figures that were not asked for may be missing. @throws {Error} where the machine lacks a part, saying what to install */
  readonly measure: (wanted: Wanted, extent: Extent) => Promise<Record<string, number>>;
}

/** How much is measured, where a person says so. */
export interface Extent {
  /** Whole lives of sandboxes. */
  readonly sandboxes?: number | undefined;
}

/** Whether a figure was asked for. */
export type Wanted = (figure: string) => boolean;
