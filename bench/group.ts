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

/** Name of a ratio: the figure that is divided, and the one that it is divided by. */
export type Ratios = Readonly<Record<string, readonly [above: string, below: string]>>;

/**
 * The figures of those groups that have one which is wanted, one group after another, and the ratios of what was measured. What cannot
 * be measured is said, with what to do about it, and makes the command fail.
 */
export async function measureGroups(
  groups: readonly Group[],
  wanted: Wanted,
  extent: Extent,
  ratios: Ratios = {},
): Promise<Record<string, number>> {
  const figures: Record<string, number> = {};
  for (const group of groups) {
    if (!group.figures.some(wanted)) continue;
    process.stderr.write(`measuring ${group.figures.filter(wanted).join(', ')}\n`);
    try {
      Object.assign(figures, await group.measure(wanted, extent));
    } catch (error) {
      process.stderr.write(
        `not measured: ${error instanceof Error ? error.message : String(error)}\n`,
      );
      process.exitCode = 1; // the others are still of use
    }
  }
  return { ...figures, ...ratiosOf(figures, ratios) };
}

/** They hold on every machine; absolute figures are those of one. */
function ratiosOf(
  figures: Readonly<Record<string, number>>,
  ratios: Ratios,
): Record<string, number> {
  return Object.fromEntries(
    Object.entries(ratios).flatMap(([name, [above, below]]) => {
      const [a, b] = [figures[above], figures[below]];
      return a === undefined || b === undefined ? [] : [[name, a / b]];
    }),
  );
}
