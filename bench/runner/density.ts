import { readdirSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { readProc } from '../../test/support/processes.ts';
import type { RunnerMesh } from '../../test/support/runner-mesh.ts';
import type { Group } from '../group.ts';
import { quantile } from '../measure.ts';
import { benchMesh, calm, USUAL } from './mesh.ts';

const SETTLE_MS = 1_000;

/** What an idle warm Python sandbox weighs with everything that is its own: bubblewrap, agent and the waiting interpreter. */
export const density: Group = {
  figures: ['idle_sandbox_pss_mib'],
  async measure() {
    if (process.getuid?.() !== 0)
      throw new Error('idle_sandbox_pss_mib: reading the memory of another user needs root');
    // Six, as `npm start` keeps warm of all kinds together: the kernel shares what their agents have in common.
    const roles = { python: `profiles: [python], ${USUAL}` };
    const mesh = await benchMesh(roles, ['bubblewrap'], ['--pool-size', '6']);
    try {
      await calm(mesh);
      await sleep(SETTLE_MS); // what was touched at the start only is given back
      return { idle_sandbox_pss_mib: quantile(pssOfBoxes(mesh), 0.5) };
    } finally {
      await mesh.stop();
    }
  },
};

/** MiB of each sandbox: as root, each has a host uid of its own, and everything of it runs as that. */
function pssOfBoxes(mesh: RunnerMesh): number[] {
  const boxes = new Map<number, number>();
  for (const name of readdirSync('/proc').filter((entry) => /^\d+$/.test(entry))) {
    const pid = Number(name);
    const uid = Number(/^Uid:\s+(\d+)/m.exec(readProc(pid, 'status'))?.[1] ?? -1);
    if (!mesh.owns(uid)) continue;
    const kib = Number(/^Pss:\s+(\d+)/m.exec(readProc(pid, 'smaps_rollup'))?.[1] ?? Number.NaN);
    boxes.set(uid, (boxes.get(uid) ?? 0) + kib / 1024);
  }
  if (boxes.size === 0) throw new Error('there is no warm sandbox to weigh');
  return [...boxes.values()];
}
