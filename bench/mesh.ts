import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { packageRoot } from '#core/package-root';
import { makePlace, type Place } from '../test/support/mesh.ts';

/** A mesh as `npm start` runs it: from dist/, in directories and on ports of its own. */
export interface BuiltMesh {
  readonly place: Place;
  readonly supervisor: ChildProcess;
  readonly readyMs: number;
  stop(): Promise<void>;
}

export async function startBuilt(env: Readonly<Record<string, string>> = {}): Promise<BuiltMesh> {
  const place = await makePlace({ env });
  const from = performance.now();
  const supervisor = spawn(process.execPath, [join(packageRoot, 'dist/cli/main.js'), 'up'], {
    env: place.env,
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  await new Promise<void>((resolve, reject) => {
    supervisor.once('exit', () => reject(new Error('the mesh did not start')));
    supervisor.stdout.on('data', (chunk: Buffer) => {
      if (chunk.toString().includes('Outrider is ready')) resolve();
    });
  });
  const readyMs = performance.now() - from;
  return {
    place,
    supervisor,
    readyMs,
    async stop() {
      supervisor.kill('SIGINT');
      await once(supervisor, 'exit');
      place.remove();
    },
  };
}
