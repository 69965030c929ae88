import type { Extent, Group, Wanted } from './group.ts';
import { added } from './proxy/added.ts';
import { cpu } from './proxy/cpu.ts';
import { overadmission } from './proxy/overadmission.ts';
import { s3 } from './proxy/s3.ts';

/** One thing measured after another; only those run that have a figure which is wanted. */
const GROUPS: readonly Group[] = [cpu, added, overadmission, s3];

/** The credential proxy from `dist/`, and its peers beside it in the same run. What cannot be measured makes the command fail. */
export async function proxyPart(wanted: Wanted, extent: Extent): Promise<Record<string, number>> {
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
  return figures;
}
