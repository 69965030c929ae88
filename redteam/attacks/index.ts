import type { Attack } from '../attack.ts';
import { filesystem } from './filesystem.ts';
import { kernel } from './kernel.ts';
import { kernelFiles } from './kernel-files.ts';
import { network } from './network.ts';
import { programs } from './programs.ts';
import { resources } from './resources.ts';
import { tenancy } from './tenancy.ts';

/** The whole battery, by number. */
export const ATTACKS: readonly Attack[] = [
  ...resources,
  ...programs,
  ...kernel,
  ...kernelFiles,
  ...filesystem,
  ...network,
  ...tenancy,
].toSorted((a, b) => a.id - b.id);
