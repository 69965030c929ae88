import { readdirSync } from 'node:fs';
import { readProc } from '../../test/support/processes.ts';
import { strangersIn } from '../../test/support/residue.ts';
import { killedBy } from '../../test/support/runner-client.ts';
import type { RunnerMesh } from '../../test/support/runner-mesh.ts';
import type { Group } from '../group.ts';
import { keptMib } from '../inspector.ts';
import { benchMesh, calm, USUAL } from './mesh.ts';

const IN_FLIGHT = 6;
/** Without `--sandboxes`. */
const COUNT = 2_000;
/** Caches are full and code is compiled after so many, at most a tenth of all. */
const SETTLED_AFTER = 1_000;
/** The stock must be the same at both looks: each warm sandbox has its sockets and its share of memory. */
const STOCK = ['--pool-size', '4', '--pool-max', '4'];

/**
 * So many whole lives of fresh Python sandboxes, and what they leave in a runner that goes on: what belongs to no sandbox that
 * the runner knows of (processes, control groups, directories, sockets, mounts), and what runner, launcher and sidecar hold more than
 * after the first thousand: descriptors, and memory once all garbage is collected. The runner remembers ended programs for 10
 * minutes, 10 000 of them at most, which is some 2 KiB for each.
 */
export const lives: Group = {
  figures: [
    'lives',
    'lives_leaked',
    ...['runner', 'launcher', 'sidecar'].flatMap((part) => [
      `${part}_fds_grown`,
      `${part}_heap_grown_mib`,
      `${part}_rss_grown_mib`,
    ]),
  ],
  async measure(_wanted, { sandboxes = COUNT }) {
    const roles = { python: `profiles: [python], ${USUAL}` };
    const mesh = await benchMesh(roles, ['bubblewrap'], STOCK, true);
    const inspectors = mesh.inspectors();
    try {
      const settled = Math.min(SETTLED_AFTER, Math.ceil(sandboxes / 10));
      await live(mesh, settled);
      const before = await holdings(mesh, inspectors);
      await live(mesh, sandboxes - settled);
      const left = Object.values(await strangersIn(mesh)).flat();
      for (const line of left) process.stderr.write(`left: ${line}\n`);
      const after = await holdings(mesh, inspectors);
      const grown = Object.entries(after).map(([name, value]) => [
        name,
        value - (before[name] ?? 0),
      ]);
      return { lives: sandboxes, lives_leaked: left.length, ...Object.fromEntries(grown) };
    } finally {
      await mesh.stop();
    }
  },
};

/** Runs so many programs to their ends, several in flight. @throws {Error} where one did not end by itself */
async function live(mesh: RunnerMesh, count: number): Promise<void> {
  let left = count;
  const work = async (): Promise<void> => {
    while (left-- > 0) {
      const { end } = await mesh.client.run({ code: 'print(1)' });
      if (killedBy(end) !== 'exit') throw new Error(`a program ended by ${killedBy(end)}`);
    }
  };
  await Promise.all(Array.from({ length: IN_FLIGHT }, work));
}

/** By the name of its figure, what each process holds when all is at rest. */
async function holdings(
  mesh: RunnerMesh,
  inspectors: readonly string[],
): Promise<Record<string, number>> {
  await calm(mesh);
  const launcher = mesh.launcher();
  if (launcher === undefined) throw new Error('the runner has no launcher');
  const parts = [
    ['sidecar', mesh.pid('sidecar'), inspectors[1]],
    ['runner', mesh.pid('runner'), inspectors[2]],
    ['launcher', launcher, inspectors[3]],
  ] as const;
  const figures: Record<string, number> = {};
  for (const [part, pid, inspector] of parts) {
    if (inspector === undefined) throw new Error(`${part} has no inspector`);
    figures[`${part}_fds_grown`] = readdirSync(`/proc/${pid}/fd`).length;
    figures[`${part}_heap_grown_mib`] = await keptMib(inspector);
    figures[`${part}_rss_grown_mib`] = residentMib(pid);
  }
  return figures;
}

function residentMib(pid: number): number {
  return Number(/^VmRSS:\s+(\d+) kB$/m.exec(readProc(pid, 'status'))?.[1]) / 1024;
}
