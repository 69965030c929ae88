import type { Case } from './grammar.ts';
import type { Told } from './our-reader.ts';
import type { Head, Reader, Reading } from './reading.ts';

/** A reader that reads otherwise, and why nobody is harmed. */
interface Known {
  readonly reader: string;
  readonly when: (ours: Reading) => boolean;
  readonly why: string;
}

const KNOWN: readonly Known[] = [
  {
    reader: 'undici',
    when: ({ heads }) => heads.some(({ status }) => status === 100),
    why: 'undici takes a 100 for an error, as it never asks for one: it refuses more, and reads nothing otherwise',
  },
];

/** What a reader understood otherwise than we did, of that which we accepted; none is what is wanted. */
export async function difference(
  reader: Reader,
  { method, text }: Case,
  { open, ended, bytes }: Told,
): Promise<string | undefined> {
  if (KNOWN.some(({ reader: name, when }) => name === reader.name && when(ended))) return undefined;
  if (open.state === 'whole') {
    const answer = text.slice(0, bytes);
    const found = otherwise(open, await reader.read(method, answer, false));
    if (found !== undefined) return found;
    const short = await reader.read(method, answer.slice(0, -1), false);
    return short.state === 'whole' ? 'it ends earlier' : undefined;
  }
  if (ended.state === 'whole') {
    const found = otherwise(ended, await reader.read(method, text, true));
    if (found !== undefined) return found;
    const early = await reader.read(method, text, false);
    return early.state === 'whole' ? 'it ends before the connection' : undefined;
  }
  // What is refused at last, or not whole yet, has been told from its beginning.
  return open.heads.length > 0
    ? otherwiseSoFar(open, await reader.read(method, text, false))
    : undefined;
}

function otherwise(ours: Reading, theirs: Reading): string | undefined {
  if (theirs.state !== 'whole') return `it is ${theirs.state}, ours whole`;
  if (theirs.heads.length !== ours.heads.length)
    return `${theirs.heads.length} heads, not ${ours.heads.length}`;
  const found = otherwiseSoFar(ours, theirs);
  if (found !== undefined) return found;
  if (theirs.body !== ours.body) return inBody(ours, theirs);
  return theirs.trailers === undefined || same(theirs.trailers, ours.trailers ?? [])
    ? undefined
    : `trailers ${JSON.stringify(theirs.trailers)}, not ${JSON.stringify(ours.trailers)}`;
}

function otherwiseSoFar(ours: Reading, theirs: Reading): string | undefined {
  for (const [at, head] of ours.heads.entries()) {
    const other = theirs.heads[at];
    if (!other) return `it is ${theirs.state} and tells no head ${at + 1}, ours does`;
    const found = inHead(head, other);
    if (found !== undefined) return found;
  }
  return theirs.body.startsWith(ours.body) || ours.body.startsWith(theirs.body)
    ? undefined
    : inBody(ours, theirs);
}

function inHead(ours: Head, theirs: Head): string | undefined {
  if (theirs.status !== ours.status) return `status ${theirs.status}, not ${ours.status}`;
  return same(theirs.headers, ours.headers)
    ? undefined
    : `headers ${JSON.stringify(theirs.headers)}, not ${JSON.stringify(ours.headers)}`;
}

function inBody(ours: Reading, theirs: Reading): string {
  return `body ${JSON.stringify(theirs.body)}, not ${JSON.stringify(ours.body)}`;
}

function same(one: readonly string[], other: readonly string[]): boolean {
  return one.length === other.length && one.every((text, at) => text === other[at]);
}
