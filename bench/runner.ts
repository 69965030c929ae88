import type { Extent, Group, Wanted } from './group.ts';
import { density } from './runner/density.ts';
import { flood } from './runner/flood.ts';
import { latency } from './runner/latency.ts';
import { lives } from './runner/lives.ts';
import { rate } from './runner/rate.ts';
import { reap } from './runner/reap.ts';
import { steady } from './runner/steady.ts';

/** One thing measured after another, each in a mesh of its own; only those run that have a figure which is wanted. */
const GROUPS: readonly Group[] = [latency, steady, density, rate, lives, reap, flood];

/**
 * The runner through its gRPC API, and the floors beside it in the same run. What cannot be measured is said, with what to do about
 * it, and makes the command fail.
 */
export async function runnerPart(wanted: Wanted, extent: Extent): Promise<Record<string, number>> {
  const figures: Record<string, number> = {};
  for (const group of GROUPS) {
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
  return { ...figures, ...ratios(figures) };
}

/** They hold on every machine; absolute figures are those of one. */
const RATIOS = {
  first_byte_over_bare: ['exec_first_byte_p50_ms', 'bare_python_p50_ms'],
  node_over_bare: ['node_first_byte_p50_ms', 'bare_node_p50_ms'],
  cold_over_bwrap: ['cold_p50_ms', 'bwrap_python_p50_ms'],
} as const;

function ratios(figures: Readonly<Record<string, number>>): Record<string, number> {
  return Object.fromEntries(
    Object.entries(RATIOS).flatMap(([name, [above, below]]) => {
      const [a, b] = [figures[above], figures[below]];
      return a === undefined || b === undefined ? [] : [[name, a / b]];
    }),
  );
}
