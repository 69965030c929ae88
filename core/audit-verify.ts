import {
  type AuditHead,
  type AuditLine,
  hashLine,
  headBytes,
  readLine,
  ZERO_HASH,
} from './audit-line.ts';
import type { TrustedIssuer } from './tokens.ts';

export interface AuditFinding {
  /** 1-based line of the text given. */
  readonly line: number;
  readonly problem: string;
}

export interface AuditVerification {
  readonly records: number;
  readonly writers: readonly AuditHead[];
  readonly checkpoints: number;
  readonly findings: readonly AuditFinding[];
}

export interface AuditExpectations {
  /** Without it no signature is checked. */
  readonly trusted?: readonly TrustedIssuer[];
  /** What is known from elsewhere to have been written. */
  readonly heads?: readonly AuditHead[];
  /** 1-based lines with which a series of files begins: an anchor there says what was before and is no longer kept. */
  readonly begins?: readonly number[];
}

interface Chain {
  head: AuditHead;
  /** The first record whose hash is known. */
  readonly from: number;
  readonly hashes: Map<number, string>;
}

/** A head that somebody saw; `here`: its chain must be among what is checked. */
interface Promised {
  readonly head: AuditHead;
  readonly line: number;
  readonly here: boolean;
}

/**
 * Checks every chain in `lines`. Finds a changed byte, a missing, doubled or reordered record, a bad signature (where `trusted`
 * is given), and a tail cut below a head that is known from elsewhere: a later writer's `previous`, a `receipt`, an anchor, or `heads`.
 * A beginning may be missing only behind an anchor with which a series of files begins.
 */
export async function verifyAudit(
  lines: readonly string[],
  options: AuditExpectations = {},
): Promise<AuditVerification> {
  const findings: AuditFinding[] = [];
  const chains = new Map<string, Chain>();
  const promised: Promised[] = (options.heads ?? []).map((head) => ({ head, line: 0, here: true }));
  const begins = new Set(options.begins ?? []);
  let records = 0;
  let checkpoints = 0;

  for (const [index, line] of lines.entries()) {
    if (line === '') continue;
    const at = index + 1;
    const entry = readLine(line);
    if (!entry) {
      findings.push({
        line: at,
        problem: 'not an audit record: the line is damaged or was cut short',
      });
      continue;
    }
    records += 1;
    if (entry.event === 'anchor' && begins.has(at)) openChains(chains, entry);
    const problem = extend(chains, entry, line);
    if (problem !== undefined) findings.push({ line: at, problem });
    promised.push(...promisesOf(entry, at));
    if (entry.event !== 'checkpoint') continue;
    checkpoints += 1;
    const wrong = await checkpointProblem(entry, options.trusted);
    if (wrong !== undefined)
      findings.push({ line: at, problem: `writer ${entry.writer}: ${wrong}` });
  }
  for (const promise of promised) {
    const problem = brokenPromise(promise, chains.get(promise.head.writer));
    if (problem !== undefined)
      findings.push({
        line: promise.line,
        problem: `writer ${promise.head.writer}: ${problem}`,
      });
  }
  return {
    records,
    writers: [...chains.values()].map((chain) => chain.head),
    checkpoints,
    findings,
  };
}

/** What stood in files that are no longer kept: the chains go on from there. */
function openChains(chains: Map<string, Chain>, { heads, writer, seq, prev }: AuditLine): void {
  const before = seq > 0 ? [{ writer, seq: seq - 1, hash: prev }] : [];
  for (const head of [...heads, ...before])
    if (!chains.has(head.writer))
      chains.set(head.writer, {
        head,
        from: head.seq,
        hashes: new Map([[head.seq, head.hash]]),
      });
}

/** Adds a record to its chain. Returns what is wrong with its place there. */
function extend(chains: Map<string, Chain>, entry: AuditLine, line: string): string | undefined {
  const { writer, seq, prev } = entry;
  const chain = chains.get(writer) ?? {
    head: { writer, seq: -1, hash: ZERO_HASH },
    from: 0,
    hashes: new Map<number, string>(),
  };
  const last = chain.head;
  const hash = hashLine(line);
  chain.head = { writer, seq, hash };
  chain.hashes.set(seq, hash);
  chains.set(writer, chain);
  if (seq !== last.seq + 1)
    return `writer ${writer}: record ${last.seq + 1} expected, ${seq} found`;
  return prev === last.hash
    ? undefined
    : `writer ${writer}: record ${seq} does not continue record ${seq - 1}: one of them was changed`;
}

/** A receipt may be of a chain kept in another file; the writer before in the same file, and those of an anchor, must be here. */
function promisesOf({ previous, head, heads }: AuditLine, line: number): Promised[] {
  return [
    ...(previous ? [{ head: previous, line, here: true }] : []),
    ...(head ? [{ head, line, here: false }] : []),
    ...heads.map((one) => ({ head: one, line, here: true })),
  ];
}

function brokenPromise({ head, here }: Promised, chain: Chain | undefined): string | undefined {
  if (!chain) return here ? `expected up to record ${head.seq}, nothing found` : undefined;
  if (chain.head.seq < head.seq)
    return `the chain ends at record ${chain.head.seq}, but record ${head.seq} is known to have been written: the tail was cut`;
  if (head.seq < chain.from) return undefined;
  return chain.hashes.get(head.seq) === head.hash
    ? undefined
    : `record ${head.seq} is not the one that was acknowledged`;
}

async function checkpointProblem(
  { head, writer, signature }: AuditLine,
  trusted: readonly TrustedIssuer[] | undefined,
): Promise<string | undefined> {
  if (head?.writer !== writer) return 'the checkpoint is of another chain';
  if (!trusted || (await signatureHolds(signature, head, trusted))) return undefined;
  return "the checkpoint's signature is not by a known key, or not over this head";
}

async function signatureHolds(
  signature: string,
  head: AuditHead,
  trusted: readonly TrustedIssuer[],
): Promise<boolean> {
  const { compactVerify, createLocalJWKSet } = await import('jose'); // who only writes an audit does without
  try {
    // A key that is there twice, as beside two files of one directory, would be in doubt, and nothing signed by it good.
    const known = new Map(trusted.flatMap(({ keys }) => keys.map((key) => [key.x, key])));
    const keys = createLocalJWKSet({ keys: [...known.values()] });
    const { payload, protectedHeader } = await compactVerify(signature, keys, {
      algorithms: ['EdDSA'],
    });
    return (
      protectedHeader.typ === 'outrider-audit-head' && Buffer.from(payload).equals(headBytes(head))
    );
  } catch {
    return false;
  }
}
