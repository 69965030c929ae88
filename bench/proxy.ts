import { type Extent, type Group, measureGroups, type Wanted } from './group.ts';
import { added } from './proxy/added.ts';
import { cpu } from './proxy/cpu.ts';
import { overadmission } from './proxy/overadmission.ts';
import { s3 } from './proxy/s3.ts';

/** One thing measured after another; only those run that have a figure which is wanted. */
const GROUPS: readonly Group[] = [cpu, added, overadmission, s3];

/** The credential proxy from `dist/`, and its peers beside it in the same run. What cannot be measured makes the command fail. */
export async function proxyPart(wanted: Wanted, extent: Extent): Promise<Record<string, number>> {
  return measureGroups(GROUPS, wanted, extent);
}
