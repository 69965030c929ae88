import { setTimeout as sleep } from 'node:timers/promises';
import { fromServiceError } from '#core/grpc';
import { type Attack, type Finding, type Group, unclear } from './attack.ts';
import { Ground } from './ground.ts';
import type { Rig } from './rig.ts';
import type { Room, Target } from './target.ts';
import { judge, type Proof, proofOf, type Verdict } from './verdict.ts';

/** Longer than the longest attack takes; then it counts as an escape. */
const ATTEMPT_MAX_MS = 60_000;
/** After these a fresh sandbox must run at once; after the others the next attack is run in one. */
const TAXING: readonly Group[] = ['resources', 'tenancy'];
/** How long the witness may take to answer: far more than it needs. */
const WITNESS_MS = 30_000;

/** One line of the table. */
export interface Row {
  readonly attack: Attack;
  readonly proof: Proof;
  /** By target. */
  readonly verdicts: ReadonlyMap<string, Verdict>;
}

export interface BatteryOptions {
  readonly attacks: readonly Attack[];
  readonly targets: readonly Target[];
  /** Of the runner, where it is our own. */
  readonly rig: Rig | undefined;
  readonly onProgress?: (text: string) => void;
}

/**
 * Every attack once on its control, then once on each target: targets side by side, attacks of one target one after the other.
 * Controls come first and alone, because some of them change, for a moment, what the attacks must leave alone.
 */
export async function runBattery(options: BatteryOptions): Promise<Row[]> {
  const { attacks, targets, rig, onProgress = () => {} } = options;
  const proofs = new Map<Attack, Proof>();
  const proveAll = async (groups: readonly Group[]): Promise<void> => {
    for (const attack of attacks.filter(({ group }) => groups.includes(group))) {
      onProgress(`control of ${attack.id} ${attack.name}`);
      proofs.set(attack, await prove(attack, targets, rig));
    }
  };
  // Many of the first two only wait. Those of the last change what belongs to the machine, so they are alone.
  await Promise.all([proveAll(['resources']), proveAll(['network', 'tenancy'])]);
  await proveAll(['kernel', 'filesystem']);
  const columns = await Promise.all(
    targets.map(async (target) => {
      const verdicts = new Map<Attack, Verdict>();
      const witness = await callWitness(target);
      try {
        for (const attack of attacks) {
          onProgress(`${target.name}: ${attack.id} ${attack.name}`);
          const proof = proofs.get(attack) ?? { result: 'failed', detail: 'it was not run' };
          verdicts.set(attack, await attackOnce(attack, target, witness, rig, proof));
        }
      } finally {
        await witness?.room.close();
      }
      return { target, verdicts };
    }),
  );
  return attacks.map((attack) => ({
    attack,
    proof: proofs.get(attack) ?? { result: 'failed', detail: 'it was not run' },
    verdicts: new Map(
      columns.flatMap(({ target, verdicts }) => {
        const verdict = verdicts.get(attack);
        return verdict ? [[target.name, verdict] as const] : [];
      }),
    ),
  }));
}

/** The attack where its protection is off; only for what is then tried on some target. */
async function prove(
  attack: Attack,
  targets: readonly Target[],
  rig: Rig | undefined,
): Promise<Proof> {
  const ground = new Ground(rig);
  try {
    const attacked = targets.find((target) => attack.unfit?.(target, ground) === undefined);
    if (!attacked) return { result: 'n/a', detail: 'it is tried on no target' };
    await attack.stage?.(ground);
    const target = await attack.control.target(ground, attacked);
    const finding = await within(attack.attempt(target, ground), ATTEMPT_MAX_MS);
    return proofOf({ finding, harm: ground.harm() });
  } catch (error) {
    return { result: 'failed', detail: textOf(error) };
  } finally {
    await ground.end();
  }
}

async function attackOnce(
  attack: Attack,
  target: Target,
  witness: Witness | undefined,
  rig: Rig | undefined,
  proof: Proof,
): Promise<Verdict> {
  const ground = new Ground(rig);
  try {
    const unfit = attack.unfit?.(target, ground);
    if (unfit !== undefined) return { result: 'n/a', detail: unfit };
    await attack.stage?.(ground);
    const finding = await within(attack.attempt(target, ground), ATTEMPT_MAX_MS).catch(
      (error: unknown): Finding => unclear(`it ended with an error: ${textOf(error)}`),
    );
    const harm = ground.harm();
    const unwell = await witness?.unwell(TAXING.includes(attack.group));
    return judge(attack, { finding, harm, unwell, ownKernel: target.ownKernel }, proof);
  } finally {
    await ground.end();
  }
}

/** A sandbox beside the attacked ones, that must go on answering and keep its file. */
interface Witness {
  readonly room: Room;
  /** What is wrong with it, or with what a fresh sandbox answers where that is asked; undefined for nothing. */
  unwell(afresh: boolean): Promise<string | undefined>;
}

async function callWitness(target: Target): Promise<Witness | undefined> {
  if (target.visit === undefined) return undefined; // nothing is kept there between programs
  const room = await target.open();
  const mark = `witness of ${target.name}`;
  const path = JSON.stringify(`${target.layout.places.workspace}/witness`);
  const put = await room.run({ code: `open(${path}, 'w').write('${mark}')` });
  if (put.exitCode !== 0) throw new Error(`the witness on ${target.name} could not start`);
  return {
    room,
    async unwell(afresh) {
      try {
        const [kept, fresh] = await Promise.all([
          within(room.run({ code: `print(open(${path}).read())` }), WITNESS_MS),
          afresh ? within(target.run({ code: 'print(6 * 7)' }), WITNESS_MS) : undefined,
        ]);
        if (kept.stdout.toString().trim() !== mark) return 'a neighbour lost its file';
        return (fresh?.stdout.toString() ?? '42\n') === '42\n'
          ? undefined
          : 'the next program did not run';
      } catch (error) {
        return `the next program did not run: ${textOf(error)}`;
      }
    },
  };
}

async function within<T>(work: Promise<T>, ms: number): Promise<T> {
  const abort = new AbortController();
  const late = sleep(ms, undefined, { signal: abort.signal }).then((): never => {
    throw new Error(`nothing came of it within ${ms} ms`);
  });
  try {
    return await Promise.race([work, late]);
  } finally {
    abort.abort();
    late.catch(() => {});
  }
}

function textOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  if (!('metadata' in error)) return error.message;
  const { code, message } = fromServiceError(error);
  return `${code}: ${message}`;
}
