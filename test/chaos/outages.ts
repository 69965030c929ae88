import { once } from 'node:events';
import type { RunnerMesh } from '../support/runner-mesh.ts';
import { tryKill } from './victims.ts';

/** Kills of whole parts: one at a time, each mended as a supervisor would, and known to everybody whom they hit. */
export class Outages {
  readonly #mesh: RunnerMesh;
  #current: Promise<void> = Promise.resolve();
  #begun = 0;
  #ended = 0;
  #endedAt = 0;

  constructor(mesh: RunnerMesh) {
    this.#mesh = mesh;
  }

  /** Resolves when no part is down. */
  async over(): Promise<void> {
    for (let seen = -1; seen !== this.#begun; ) {
      seen = this.#begun;
      await this.#current;
    }
  }

  /** Tells later whether a part was down at any time since now, or so shortly before that it was missed by what was in the making. */
  since(): () => boolean {
    const begun = this.#begun;
    const down = begun > this.#ended || Date.now() - this.#endedAt < AFTERMATH_MS;
    return () => down || this.#begun > begun;
  }

  /** Kills a part where it stands, and resolves when the mesh is ready again. */
  kill(part: 'runner' | 'launcher' | 'sidecar'): Promise<void> {
    const outage = this.#current.then(async () => {
      this.#begun++;
      try {
        await this.#killAndMend(part);
      } finally {
        this.#ended++;
        this.#endedAt = Date.now();
      }
    });
    this.#current = outage.catch(() => {}); // told to who asked for it
    return outage;
  }

  async #killAndMend(part: 'runner' | 'launcher' | 'sidecar'): Promise<void> {
    const mesh = this.#mesh;
    if (part === 'launcher') {
      const launcher = mesh.launcher();
      if (launcher === undefined) throw new Error('the runner has no launcher');
      const gone = mesh.exited('runner');
      tryKill(launcher);
      await within(RUNNER_GIVES_UP_MS, 'the runner goes on without its launcher', gone);
      await mesh.startPart('runner');
      return;
    }
    if (part === 'sidecar' && mesh.sharing === 'none') {
      killOne(mesh.sidecars()); // the runner mends that itself
      await mesh.untilReady();
      return;
    }
    await mesh.end(part, 'SIGKILL');
    await mesh.startPart(part); // at the first try, whatever the life before it is still clearing up
    if (part === 'sidecar') await mesh.untilReady();
  }
}

/** The newest: it waits for a sandbox, or has just got one. */
function killOne(sidecars: readonly number[]): void {
  const newest = sidecars.toSorted((a, b) => b - a)[0];
  if (newest === undefined) throw new Error('the runner has no sidecar');
  tryKill(newest);
}

/** The longest that a sandbox is in the making. */
const AFTERMATH_MS = 1_500;
const RUNNER_GIVES_UP_MS = 10_000;

async function within(ms: number, late: string, work: Promise<unknown>): Promise<void> {
  const timeout = AbortSignal.timeout(ms);
  await Promise.race([
    work,
    once(timeout, 'abort').then(() => {
      throw new Error(`${late} for ${ms} ms`);
    }),
  ]);
}
