import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { packageRoot } from '#core/package-root';
import { type Ended, ended } from './mesh.ts';

const WITHIN_MS = 90_000;

/** Plays the demo as `npm run demo` does, in an environment that says which mesh. */
export function demo(env: Readonly<Record<string, string | undefined>>): Promise<Ended> {
  const child = spawn(
    process.execPath,
    ['--conditions=outrider-source', join(packageRoot, 'examples/demo/demo.ts')],
    { env: { ...env }, stdio: ['ignore', 'pipe', 'pipe'] },
  );
  return ended(child, WITHIN_MS);
}
