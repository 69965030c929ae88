import { setTimeout as sleep } from 'node:timers/promises';
import type { RunnerMesh } from '../../test/support/runner-mesh.ts';
import type { Group } from '../group.ts';
import { quantile } from '../measure.ts';
import { benchMesh, calm, USUAL } from './mesh.ts';

const PER_S = 20;
const WARM_UP = 60;
const SAMPLES = 500;

/**
 * First bytes while programs keep coming, 20 a second and not in step with anything: every one meets what replaces the sandboxes
 * that those before it took. One that found no warm sandbox counts as it was. A machine that cannot keep up is told so.
 */
export const steady: Group = {
  figures: ['steady_first_byte_p50_ms', 'steady_first_byte_p95_ms', 'steady_cold_share'],
  async measure() {
    const mesh = await benchMesh({ python: `profiles: [python], ${USUAL}` });
    try {
      await calm(mesh);
      await arrivals(mesh, WARM_UP);
      const seen = await arrivals(mesh, SAMPLES);
      const took = seen.map(({ ms }) => ms);
      return {
        steady_first_byte_p50_ms: quantile(took, 0.5),
        steady_first_byte_p95_ms: quantile(took, 0.95),
        steady_cold_share: seen.filter(({ warm }) => !warm).length / seen.length,
      };
    } finally {
      await mesh.stop();
    }
  },
};

interface Seen {
  readonly ms: number;
  readonly warm: boolean;
}

/** So many programs, each at its time whether or not those before it have ended: half to one and a half times the mean apart. */
async function arrivals(mesh: RunnerMesh, count: number): Promise<Seen[]> {
  const running: Promise<Seen>[] = [];
  let at = performance.now();
  for (let turn = 0; turn < count; turn++) {
    at += (1000 / PER_S) * (0.5 + ((turn * GOLDEN) % 1));
    await sleep(Math.max(0, at - performance.now()));
    const one = firstByte(mesh);
    one.catch(() => {}); // told below
    running.push(one);
  }
  return Promise.all(running);
}

/** Multiples of it, without their whole parts, are spread evenly and never repeat. */
const GOLDEN = 0.618_033_988_749_895;

async function firstByte(mesh: RunnerMesh): Promise<Seen> {
  const from = performance.now();
  let ms: number | undefined;
  let warm = false;
  for await (const response of mesh.client.exec({ code: 'print(1)', role: 'python' }).responses) {
    if (response.$case === 'stdout') ms ??= performance.now() - from;
    if (response.$case === 'started') warm = response.value.warm;
  }
  if (ms === undefined) throw new Error('a program wrote nothing');
  return { ms, warm };
}
