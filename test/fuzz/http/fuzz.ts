import { Random } from '../../support/random.ts';
import { minimised } from '../minimise.ts';
import { mutated } from '../mutate.ts';
import { difference } from './compare.ts';
import { type FuzzDoor, openDoor, type Told } from './door.ts';
import { type Case, randomCase } from './grammar.ts';
import { nodeReader } from './node-reader.ts';
import { pythonReader } from './python-reader.ts';
import type { Reader } from './reading.ts';
import { undiciReader } from './undici-reader.ts';

/** A case that the door let through though somebody reads it otherwise. */
export interface Finding {
  readonly reader: string;
  readonly what: string;
  /** Left out is what does not matter. */
  readonly minimal: Case;
}

export interface Findings {
  readonly cases: number;
  readonly findings: readonly Finding[];
  /** How often each outcome came up, so that a run that looks at nothing is seen. */
  readonly seen: ReadonlyMap<string, number>;
}

/** Connections at once. A case for which the door waits costs its place for a while, and no time. */
const AT_ONCE = 96;
/** Silence after which the door is taken to wait for more. */
const QUIET_MS = 2_000;
/** The same while a case is made smaller, which takes hundreds of tries. */
const HASTY_MS = 300;
const FINDINGS_MAX = 20;
/** Of each reader; it takes seconds. */
const MINIMISED_MAX = 3;

/**
 * Cases from a grammar, their bytes changed here and there, through a real door, and through llhttp with its checks and without, undici
 * and Python's http.server: whatever any of them reads otherwise the door must have refused; and what undici wrote behind the door all
 * must read as the one request that it is.
 */
export async function fuzzHttp(
  cases: number,
  seed: number,
  given?: (door: FuzzDoor) => FuzzDoor,
): Promise<Findings> {
  const real = await openDoor();
  const door = given?.(real) ?? real;
  const readers = [
    nodeReader('llhttp, strict', false),
    nodeReader('llhttp, lenient', true),
    undiciReader(),
    pythonReader(),
  ];
  const random = new Random(seed);
  const seen = new Map<string, number>();
  const findings: Finding[] = [];
  const differing = new Map<string, number>();
  let left = cases;
  const worker = async (): Promise<void> => {
    while (left > 0 && findings.length < FINDINGS_MAX) {
      left -= 1;
      const one = mutated(random, randomCase(random));
      const told = await door.send(one, QUIET_MS);
      count(seen, told);
      for (const reader of readers) {
        if ((await disagreement(reader, one, told)) === undefined) continue;
        const before = differing.get(reader.name) ?? 0;
        differing.set(reader.name, before + 1); // at once: others find more meanwhile
        findings.push(await findingOf(door, reader, one, before < MINIMISED_MAX));
      }
    }
  };
  try {
    await Promise.all(Array.from({ length: AT_ONCE }, worker));
    return { cases, findings, seen };
  } finally {
    for (const reader of readers) reader.stop();
    await real.stop();
  }
}

/** What a reader sees otherwise: in what was sent, or in what came out of the door, which is one request each and the very one. */
async function disagreement(reader: Reader, one: Case, told: Told): Promise<string | undefined> {
  const found = difference(told, await reader.read(one.text), one.inside);
  if (found !== undefined) return found;
  for (const answer of told.answers) {
    if (answer.kind !== 'forwarded') continue;
    const reading = await reader.read(answer.recorded.wire);
    const written = difference({ answers: [answer], closed: true }, reading, false);
    if (written !== undefined) return `what was written for it is read otherwise: ${written}`;
  }
  return undefined;
}

/** Makes a case small about which a reader and the door do not agree. */
async function findingOf(
  door: FuzzDoor,
  reader: Reader,
  one: Case,
  minimise: boolean,
): Promise<Finding> {
  const differs = async (candidate: Case, quietMs: number): Promise<string | undefined> =>
    disagreement(reader, candidate, await door.send(candidate, quietMs));
  const stillDiffers = async (shorter: Case): Promise<boolean> =>
    (await differs(shorter, HASTY_MS)) !== undefined;
  const minimal = minimise ? await minimised(one, stillDiffers) : one;
  const what = (await differs(minimal, QUIET_MS)) ?? 'it differs now and then';
  return { reader: reader.name, what, minimal };
}

function count(seen: Map<string, number>, { answers, closed, plain = 0 }: Told): void {
  const add = (what: string): void => void seen.set(what, (seen.get(what) ?? 0) + 1);
  for (const answer of answers)
    add('status' in answer ? `${answer.kind} ${answer.status}` : answer.kind);
  if (!closed) add('waiting');
  for (let left = plain; left > 0; left -= 1) add('taken as plain');
}
