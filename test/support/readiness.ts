import { setTimeout as sleep } from 'node:timers/promises';
import type { Replica } from './replica.ts';

const EVERY_MS = 200;
const ANSWERS_WITHIN_MS = 2_000;
const READY_WITHIN_MS = 120_000;

/**
 * Asks replicas for /readyz, as balancers do. `ready` gives those that did not say otherwise when they were last asked, and all of
 * them where none is. One that says nothing in time is taken for what it was: that the machine is busy is no word of its.
 */
export function watchReadiness(replicas: readonly Replica[]): {
  ready: () => readonly Replica[];
  end: () => void;
} {
  const unready = new Set<Replica>();
  const over = new AbortController();
  const watch = async (replica: Replica): Promise<void> => {
    while (!over.signal.aborted) {
      const status = await readyz(replica);
      if (status === 200) unready.delete(replica);
      else if (status !== undefined) unready.add(replica);
      await sleep(EVERY_MS);
    }
  };
  for (const replica of replicas) void watch(replica);
  return {
    ready: () =>
      unready.size < replicas.length ? replicas.filter((one) => !unready.has(one)) : replicas,
    end: () => over.abort(),
  };
}

/** Waits until a replica says that it is ready; false where that takes longer than two minutes. */
export async function untilReady(replica: Replica): Promise<boolean> {
  const deadline = performance.now() + READY_WITHIN_MS;
  while (performance.now() < deadline) {
    if ((await readyz(replica)) === 200) return true;
    await sleep(EVERY_MS);
  }
  return false;
}

/** Its status, 0 where it cannot be reached, undefined where it does not answer in time. */
async function readyz({ port }: Replica): Promise<number | undefined> {
  const signal = AbortSignal.timeout(ANSWERS_WITHIN_MS);
  try {
    const response = await fetch(`http://127.0.0.1:${port}/readyz`, { signal });
    await response.text();
    return response.status;
  } catch {
    return signal.aborted ? undefined : 0;
  }
}
