import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import type { RunnerMesh } from '../../test/support/runner-mesh.ts';
import type { Group, Wanted } from '../group.ts';
import { quantile, rssMib, timed } from '../measure.ts';
import { benchMesh, calm, USUAL } from './mesh.ts';

const GIB = 2 ** 30;
const FLOOD = `
import os
block = b"x" * 65536
for _ in range(${GIB / 65_536}): os.write(1, block)
`;
/** What a reader takes for one chunk: at 64 KiB each, it would read a GiB in eight minutes. */
const READER_MS = 30;
const NEIGHBOURS = 24;
/** A process that has just started is slow at all that it does for the first time. */
const WARM_UP = 100;
const HELD_MS = 5_000;
const NEIGHBOUR_GAP_MS = 20;
const TURNS = 5;
const RSS_EVERY_MS = 10;

/**
 * 1 GiB of stdout with a reader that is slow: what it costs the runner in memory, and others in time. The program is either let
 * run, its middle dropped and counted, or held back, where the role allows all of it. Memory is measured with nobody else there, in a
 * runner that has run nothing before; neighbours run one after another, without the flood and beside it in turns.
 */
export const flood: Group = {
  figures: ['flood_rss_growth_mib', 'flood_neighbour_p99_ratio', 'flood_mib_per_s'],
  async measure(wanted: Wanted) {
    const figures: Record<string, number> = {};
    if (wanted('flood_rss_growth_mib')) {
      const growth: number[] = [];
      for (const role of ['python', 'held'])
        growth.push(await inMesh((mesh) => memoryOf(mesh, role)));
      figures['flood_rss_growth_mib'] = Math.max(...growth);
    }
    if (wanted('flood_neighbour_p99_ratio') || wanted('flood_mib_per_s'))
      Object.assign(figures, await inMesh(timesOf));
    return figures;
  },
};

async function inMesh<T>(measure: (mesh: RunnerMesh) => Promise<T>): Promise<T> {
  const mesh = await benchMesh({
    python: `profiles: [python], ${USUAL}`,
    held: 'profiles: [python], timeout: 60s, memory: 256MiB, disk: 64MiB, output: 2GiB',
  });
  try {
    return await measure(mesh);
  } finally {
    await mesh.stop();
  }
}

/** How much more memory the runner takes at the most while one flood goes on: to its end, or for some seconds where it is held back. */
async function memoryOf(mesh: RunnerMesh, role: string): Promise<number> {
  await calm(mesh);
  const rss = watchRss(mesh.pid('runner'));
  const before = rss.most();
  const running = startFlood(mesh, role);
  const mostMs = role === 'python' ? Infinity : HELD_MS;
  for (let ms = 0; !running.over() && ms < mostMs; ms += 50) await sleep(50);
  running.cancel();
  await running.mibPerS;
  rss.stop();
  return rss.most() - before;
}

async function timesOf(mesh: RunnerMesh): Promise<Record<string, number>> {
  const [quiet, beside, floods]: [number[], number[], number[]] = [[], [], []];
  await neighbours(mesh, WARM_UP);
  for (let turn = 0; turn < TURNS; turn++) {
    await calm(mesh);
    quiet.push(...(await neighbours(mesh, NEIGHBOURS)));
    const running = startFlood(mesh, turn % 2 === 0 ? 'python' : 'held');
    beside.push(...(await neighbours(mesh, NEIGHBOURS)));
    if (turn % 2 === 0) while (!running.over()) beside.push(...(await neighbours(mesh, 1))); // all of the GiB
    running.cancel();
    const mibPerS = await running.mibPerS;
    if (turn % 2 === 0) floods.push(mibPerS);
  }
  return {
    flood_neighbour_p99_ratio: quantile(beside, 0.99) / quantile(quiet, 0.99),
    flood_mib_per_s: quantile(floods, 0.5),
  };
}

interface Flood {
  readonly over: () => boolean;
  /** Ends one that is held back, which would go on for minutes. */
  readonly cancel: () => void;
  /** How fast it came; 0 for one that was cancelled. */
  readonly mibPerS: Promise<number>;
}

function startFlood(mesh: RunnerMesh, role: string): Flood {
  const { call, responses } = mesh.client.exec({ code: FLOOD, role });
  let over = false;
  let cancelled = false;
  const read = async (): Promise<number> => {
    try {
      for await (const response of responses) {
        if (response.$case === 'stdout') await sleep(READER_MS);
        if (response.$case !== 'end') continue;
        const { stdout, usage } = response.value;
        const seconds = Number(usage?.wall?.seconds ?? 0) + (usage?.wall?.nanos ?? 0) / 1e9;
        if (Number(stdout?.total) !== GIB)
          throw new Error(`${stdout?.total} bytes came, not 1 GiB`);
        return GIB / 2 ** 20 / seconds;
      }
    } catch (error) {
      if (!cancelled) throw error;
    } finally {
      over = true;
    }
    return 0;
  };
  const mibPerS = read();
  mibPerS.catch(() => {}); // told when it is asked for
  return {
    over: () => over,
    cancel: () => {
      if (over) return;
      cancelled = true;
      call.cancel();
    },
    mibPerS,
  };
}

/** Milliseconds of whole programs of somebody else, one after another. */
async function neighbours(mesh: RunnerMesh, count: number): Promise<number[]> {
  const took: number[] = [];
  for (let round = 0; round < count; round++) {
    await sleep(NEIGHBOUR_GAP_MS);
    took.push(await timed(() => mesh.client.run({ code: 'print(1)', role: 'python' })));
  }
  return took;
}

/** The most memory that a process has used since now. */
function watchRss(pid: number): { most: () => number; stop: () => void } {
  let most = 0;
  const look = () => {
    most = Math.max(most, rssMib(readFileSync(`/proc/${pid}/status`, 'utf8')));
  };
  look();
  const timer = setInterval(look, RSS_EVERY_MS);
  return { most: () => most, stop: () => clearInterval(timer) };
}
