import { leftOf, type Residue, strangersIn } from '../support/residue.ts';
import { RunnerMesh } from '../support/runner-mesh.ts';
import { attempt, type Outcome, type Scene } from './attempt.ts';
import { Outages } from './outages.ts';
import { type Kill, planOf } from './plan.ts';

export interface CampaignOptions {
  readonly seed: number;
  /** How many kills. */
  readonly count: number;
  readonly backend: string;
  /** One sidecar for all sandboxes, or one for each. */
  readonly sharing: 'host' | 'none';
  /** Runs dist/ instead of the sources. */
  readonly built?: boolean;
  /** Told after each batch. */
  readonly onBatch?: (done: number, problems: number) => void;
}

/** What a campaign came to. */
export interface Report {
  /** How often each kind of kill was seen to end how. */
  readonly ends: Readonly<Record<string, Readonly<Record<string, number>>>>;
  /** Every end that should not have been, and everything that was left, with the number of its kill or batch. */
  readonly problems: readonly string[];
  readonly seconds: number;
}

/** Between two looks at what is left: at a runner that lives and is at rest, then with everything stopped. */
const BATCH = 200;
const IN_FLIGHT: Readonly<Record<string, number>> = { bubblewrap: 8, docker: 4, gvisor: 3 };
/** A process of Node for each sandbox is work for a machine. */
const IN_FLIGHT_UNSHARED = 4;

const POLICIES = `
apiVersion: outrider/v1
kind: Role
metadata: {name: chaos, owner: tests}
spec:
  members: [{issuer: "outrider:local"}]
  sandbox: {timeout: 60s, memory: 128MiB, disk: 16MiB, pids: 64, concurrent: 64, output: 64KiB}
`;

/** Kills `count` programs, or the parts below them, on one backend, and looks for what is left after each batch. */
export async function campaign(options: CampaignOptions): Promise<Report> {
  const { seed, count, backend, sharing, built = false, onBatch = () => {} } = options;
  const from = performance.now();
  const kills = planOf(seed, count, sharing);
  const outcomes: Outcome[] = [];
  const problems: string[] = [];
  const told = new Set<string>();
  const tell = (residue: Partial<Residue>, where: string): void => {
    for (const [kind, things] of Object.entries(residue))
      for (const thing of things.filter((each) => !told.has(each))) {
        told.add(thing); // once, though it may stay for all batches to come
        problems.push(`after kill ${outcomes.length - 1}: ${kind} left ${where}: ${thing}`);
      }
  };
  const mesh = new RunnerMesh({
    policies: POLICIES,
    argv: ['--backends', backend, '--capacity', '64', '--drain-timeout', '2s'],
    built,
    sharing,
  });
  try {
    while (outcomes.length < kills.length) {
      const batch = kills.slice(outcomes.length, outcomes.length + BATCH);
      await mesh.start();
      const done = await allOf({ mesh, backend, outages: new Outages(mesh) }, batch);
      outcomes.push(...done);
      problems.push(...done.flatMap(described));
      tell(await strangersIn(mesh), 'while the runner lives');
      const code = await mesh.stopParts();
      if (code !== 0)
        problems.push(`after kill ${outcomes.length - 1}: the runner ended with ${code}`);
      tell(await leftOf(mesh), 'when all had stopped');
      onBatch(outcomes.length, problems.length);
    }
  } finally {
    await mesh.stop();
  }
  return { ends: tally(outcomes), problems, seconds: (performance.now() - from) / 1000 };
}

/** Runs a batch with several in flight, so that what hits one meets others at every moment of their lives. */
async function allOf(scene: Scene, batch: readonly Kill[]): Promise<Outcome[]> {
  const waiting = [...batch];
  const outcomes: Outcome[] = [];
  const work = async (): Promise<void> => {
    for (let kill = waiting.shift(); kill; kill = waiting.shift()) {
      await scene.outages.over();
      outcomes.push(await attempt(scene, kill));
    }
  };
  const inFlight =
    scene.mesh.sharing === 'none' ? IN_FLIGHT_UNSHARED : (IN_FLIGHT[scene.backend] ?? 4);
  await Promise.all(Array.from({ length: inFlight }, work));
  await scene.outages.over();
  return outcomes;
}

function described({ kill, problem }: Outcome): string[] {
  if (problem === undefined) return [];
  const { index, kind, program, afterMs, since } = kill;
  return [
    `kill ${index} (${kind} of ${program} ${afterMs.toFixed(1)} ms after ${since}): ${problem}`,
  ];
}

function tally(outcomes: readonly Outcome[]): Record<string, Record<string, number>> {
  const ends: Record<string, Record<string, number>> = {};
  for (const { kill, seen } of outcomes) {
    const row = (ends[kill.kind] ??= {});
    row[seen] = (row[seen] ?? 0) + 1;
  }
  return ends;
}
