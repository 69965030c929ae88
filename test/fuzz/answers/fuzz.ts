import { Random } from '../../support/random.ts';
import { minimised } from '../minimise.ts';
import { mutated } from '../mutate.ts';
import { difference } from './compare.ts';
import { type Case, randomCase } from './grammar.ts';
import { nodeReader } from './node-reader.ts';
import { type Told, tellOurs } from './our-reader.ts';
import { pythonReader } from './python-reader.ts';
import { undiciReader } from './undici-reader.ts';

/** An answer that we accepted though somebody reads it otherwise, or that we read otherwise in other pieces. */
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

/** Cases under way at once: the readers of this process wait turns of its loop, Python's works meanwhile. */
const AT_ONCE = 16;
/** Of each reader, which is not asked again after that. */
const FINDINGS_MAX = 5;
/** Of each reader; it takes hundreds of tries. */
const MINIMISED_MAX = 2;

/**
 * Answers from a grammar, their bytes changed here and there, through our parser and through llhttp with its checks and without, undici and
 * Python's http.client: whatever we accept, all must read as the same heads, body, trailers and end.
 */
export async function fuzzAnswers(
  cases: number,
  seed: number,
  tell: (one: Case) => Told = tellOurs,
): Promise<Findings> {
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
  const look = async (reader: string, one: Case, told: Told, differs: Differs): Promise<void> => {
    if ((differing.get(reader) ?? 0) >= FINDINGS_MAX) return;
    const what = await differs(one, told);
    const before = differing.get(reader) ?? 0;
    if (what === undefined || before >= FINDINGS_MAX) return;
    differing.set(reader, before + 1); // at once: others find more meanwhile
    const stillDiffers = async (shorter: Case): Promise<boolean> =>
      shorter.text !== '' && (await differs(shorter, tell(shorter))) !== undefined;
    const minimal = before < MINIMISED_MAX ? await minimised(one, stillDiffers) : one;
    findings.push({ reader, what: (await differs(minimal, tell(minimal))) ?? what, minimal });
  };
  const worker = async (): Promise<void> => {
    while (left > 0) {
      left -= 1;
      const one = mutated(random, randomCase(random));
      const told = tell(one);
      const outcome = outcomeOf(told);
      seen.set(outcome, (seen.get(outcome) ?? 0) + 1);
      await look('ours', one, told, async (_, { uneven }) => uneven);
      for (const reader of readers)
        await look(reader.name, one, told, (other, ours) => difference(reader, other, ours));
    }
  };
  try {
    await Promise.all(Array.from({ length: AT_ONCE }, worker));
    return { cases, findings, seen };
  } finally {
    for (const reader of readers) reader.stop();
  }
}

type Differs = (one: Case, told: Told) => Promise<string | undefined>;

function outcomeOf({ open, ended }: Told): string {
  const status = ended.heads.at(-1)?.status;
  if (open.state === 'whole') {
    const framing = open.body === '' ? 'without a body' : 'with a body';
    return `accepted ${framing}${open.heads.length > 1 ? ', after interim ones' : ''}`;
  }
  if (ended.state === 'whole') return 'accepted until the end of the connection';
  const kind = open.state === 'refused' ? 'refused' : 'cut short';
  return status === undefined ? `${kind} in its head` : `${kind} behind a head`;
}
