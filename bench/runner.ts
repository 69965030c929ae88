import { type Extent, type Group, measureGroups, type Ratios, type Wanted } from './group.ts';
import { density } from './runner/density.ts';
import { flood } from './runner/flood.ts';
import { latency } from './runner/latency.ts';
import { lives } from './runner/lives.ts';
import { rate } from './runner/rate.ts';
import { reap } from './runner/reap.ts';
import { steady } from './runner/steady.ts';

/** One thing measured after another, each in a mesh of its own; only those run that have a figure which is wanted. */
const GROUPS: readonly Group[] = [latency, steady, density, rate, lives, reap, flood];

const RATIOS: Ratios = {
  first_byte_over_bare: ['exec_first_byte_p50_ms', 'bare_python_p50_ms'],
  node_over_bare: ['node_first_byte_p50_ms', 'bare_node_p50_ms'],
  cold_over_bwrap: ['cold_p50_ms', 'bwrap_python_p50_ms'],
};

/** The runner through its gRPC API, and the floors beside it in the same run. */
export async function runnerPart(wanted: Wanted, extent: Extent): Promise<Record<string, number>> {
  return measureGroups(GROUPS, wanted, extent, RATIOS);
}
