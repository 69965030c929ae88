import { failedResult, type Result, runCase } from './battery.ts';
import type { Case } from './case.ts';
import { HARMS, IMPATIENT } from './harm-cases.ts';
import { startWorld, type World, type WorldOptions } from './world.ts';

/** Meshes that share the cases which only wait for answers. */
const LANES = 4;

/**
 * Runs every case, and resolves to their results in the order of the cases. Each lane has a mesh of its own, so that all that is seen there
 * belongs to the case that is being sent. What changes the policy, and what ends and starves parts, has a mesh for that; what is measured
 * comes when the rest is done; and what searches all that was written comes last, in every lane.
 */
export async function runAll(
  cases: readonly Case[],
  onResult: (result: Result) => void,
): Promise<Result[]> {
  const results = new Map<string, Result>();
  const run = async (lane: Lane, one: Case): Promise<void> => {
    const result = await lane.run(one);
    onResult(result);
    const before = results.get(one.id);
    if (before === undefined || before.state === 'passed') results.set(one.id, result);
  };
  const of = (place: string) => cases.filter((one) => placeOf(one) === place);
  const [queue, scans] = [of('shared'), of('scan')];
  const lanes = Array.from({ length: queue.length > LANES ? LANES : 1 }, () => new Lane({}));
  const own = [
    { place: 'harm', lane: new Lane({ env: IMPATIENT, mayEnd: true }) },
    { place: 'policy', lane: new Lane({}) },
  ];
  const share = async (lane: Lane): Promise<void> => {
    for (let one = queue.shift(); one; one = queue.shift()) await run(lane, one);
    if (lane !== lanes[0]) for (const one of scans) await run(lane, one);
  };
  const keep = async ({ place, lane }: (typeof own)[number]): Promise<void> => {
    for (const one of [...of(place), ...(place === 'policy' ? scans : [])]) await run(lane, one);
    await lane.stop();
  };
  try {
    await allToTheirEnd([...lanes.map(share), ...own.map(keep)]);
    for (const lane of lanes.slice(1)) await lane.stop();
    for (const one of [...of('measured'), ...scans]) if (lanes[0]) await run(lanes[0], one);
  } finally {
    await allToTheirEnd([...lanes, ...own.map(({ lane }) => lane)].map((lane) => lane.stop()));
  }
  return cases.flatMap(({ id }) => results.get(id) ?? []);
}

/** What fails in one lane leaves no other behind that still runs. @throws {unknown} the first failure, after the last has ended */
async function allToTheirEnd(lanes: readonly Promise<void>[]): Promise<void> {
  for (const ended of await Promise.allSettled(lanes))
    if (ended.status === 'rejected') throw ended.reason;
}

/** One case after the other with one mesh, or with another one where the first was lost. */
class Lane {
  readonly #options: WorldOptions;
  #world: Promise<World> | undefined;

  constructor(options: WorldOptions) {
    this.#options = options;
  }

  /** @throws {Error} where no mesh can be started */
  async run(one: Case): Promise<Result> {
    this.#world ??= startWorld(this.#options);
    const world = await this.#world;
    try {
      return await runCase(world, one);
    } catch (error) {
      // What the harness lost sight of has failed, and the next case is not to suffer from it.
      this.#world = undefined;
      await world.stop().catch(() => {});
      return failedResult(one, error instanceof Error ? error.message : String(error));
    }
  }

  /** @throws {Error} where something of the mesh is left */
  async stop(): Promise<void> {
    const world = await this.#world;
    this.#world = undefined;
    await world?.stop();
  }
}

/** `policy`: it changes what is in force, and for what runs that can only become less. */
function placeOf({ send }: Case): string {
  if (send.kind === 'scan') return 'scan';
  if (send.kind === 'config') return 'policy';
  // What an origin does that makes the proxy wait.
  if (send['bytes'] === '{drip}') return 'harm';
  if (send.kind !== 'scenario') return 'shared';
  return String(send['name']) in HARMS ? 'harm' : 'measured';
}
