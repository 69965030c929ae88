import { join } from 'node:path';
import { packageRoot } from '../package-root.ts';

/** Set by whoever has just built dist/: processes of `outrider` run from there, as shipped, and start in half the time. */
const BUILT = 'OUTRIDER_TESTS_BUILT';

/** For tests alone. What follows `node` for a process of `outrider`: from dist/ where that is as new as the sources, otherwise from these. */
export function outriderArgv(built: boolean = process.env[BUILT] === '1'): string[] {
  return built
    ? [join(packageRoot, 'dist/cli/main.js')]
    : ['--conditions=outrider-source', join(packageRoot, 'cli/main.ts')];
}
