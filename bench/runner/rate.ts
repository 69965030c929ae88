import { strangersIn } from '../../test/support/residue.ts';
import { killedBy } from '../../test/support/runner-client.ts';
import type { RunnerMesh } from '../../test/support/runner-mesh.ts';
import type { Group } from '../group.ts';
import { benchMesh, calm, USUAL } from './mesh.ts';

const IN_FLIGHT = 6;
const WARM_UP_MS = 2_000;
const MEASURED_MS = 10_000;

/**
 * Whole lives of fresh Python sandboxes, several in flight: made, bound, one program run to its end, nothing left. When all
 * is calm again there must be nothing of any that the runner does not keep warm.
 */
export const rate: Group = {
  figures: ['sandboxes_per_s', 'sandboxes_leaked'],
  async measure() {
    const mesh = await benchMesh({ python: `profiles: [python], ${USUAL}` });
    try {
      await calm(mesh);
      await lives(mesh, WARM_UP_MS);
      const from = performance.now();
      const ended = await lives(mesh, MEASURED_MS);
      const seconds = (performance.now() - from) / 1000;
      const left = Object.values(await strangersIn(mesh)).flat();
      return { sandboxes_per_s: ended / seconds, sandboxes_leaked: left.length };
    } finally {
      await mesh.stop();
    }
  },
};

/** How many programs ran to their end within this time. @throws {Error} where one did not end by itself */
async function lives(mesh: RunnerMesh, ms: number): Promise<number> {
  const until = performance.now() + ms;
  let ended = 0;
  const work = async (): Promise<void> => {
    while (performance.now() < until) {
      const { end } = await mesh.client.run({ code: 'print(1)' });
      if (killedBy(end) !== 'exit') throw new Error(`a program ended by ${killedBy(end)}`);
      ended++;
    }
  };
  await Promise.all(Array.from({ length: IN_FLIGHT }, work));
  return ended;
}
