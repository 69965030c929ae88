import { ANY, kindOf, type Pair, type Pattern, pairOf } from './redaction-pattern.ts';

/** Bytes from `from` to before `to`. */
export type Range = readonly [from: number, to: number];

/** Finds several patterns in one pass. */
export interface Matcher {
  /** Where each pattern is, overlapping ones too. */
  occurrences(bytes: Buffer): Range[];
  /** Where the longest tail begins that is a beginning, but not the whole, of a pattern; the length where there is none. */
  tailStart(bytes: Buffer): number;
  /** Where the longest tail begins that is so much of a pattern's beginning as to give it away; the length where there is none. */
  tellingStart(bytes: Buffer): number;
}

const PAIRS = 65_536;
/** So many bytes of a pattern's beginning, or the half of a shorter one, give it away. */
const TELLING_BYTES = 8;

/** Calls `visit` with each place from `start` on where one of `patterns` may be, in turn, until it returns true. */
type Search = (
  bytes: Buffer,
  start: number,
  visit: (from: number, patterns: readonly Pattern[]) => boolean,
) => void;

/**
 * After Wu and Manber, "A fast algorithm for multi-pattern searching" (1994): it looks at the last two of as many bytes as the shortest
 * pattern has, and moves on by how far away from the end any pattern has those two. The longer the shortest pattern, the fewer bytes it looks at.
 */
export function createMatcher(patterns: readonly Pattern[]): Matcher {
  const used = patterns.filter(({ longest }) => longest > 0);
  const window = used.reduce((least, { shortest }) => Math.min(least, shortest), Infinity);
  const nowhere = ({ length }: Buffer): number => length;
  if (used.length === 0)
    return { occurrences: () => [], tailStart: nowhere, tellingStart: nowhere };
  const byByte = byBytes(used);
  const search = window === 1 ? byByte : byPairs(used, window);
  const tails = (leastOf: (pattern: Pattern) => number) => (bytes: Buffer) =>
    tailOf(bytes, { search, byByte, window, longest, leastOf });
  const longest = used.reduce((most, pattern) => Math.max(most, pattern.longest), 0);
  return {
    occurrences(bytes) {
      const ranges: Range[] = [];
      search(bytes, 0, (from, candidates) => {
        for (const pattern of candidates) {
          const length = pattern.lengthAt(bytes, from);
          if (length > 0) ranges.push([from, from + length]);
        }
        return false;
      });
      return ranges;
    },
    tailStart: tails(() => 1),
    tellingStart: tails(({ shortest }) => Math.min(TELLING_BYTES, Math.ceil(shortest / 2))),
  };
}

function byPairs(patterns: readonly Pattern[], window: number): Search {
  const most = Math.min(window - 1, 255);
  const first = window - most - 1; // of a window that is longer than a shift can be, only its end is looked at
  const shifts = new Uint8Array(PAIRS).fill(most);
  // What escapes are made of stands in numbers, too: a pair that is behind what it is behind in no escape moves on by its other places.
  const unescapedShifts = new Uint8Array(PAIRS).fill(most);
  const behinds = new Uint8Array(PAIRS);
  const endingIn = new Map<Pair, Pattern[]>();
  for (const pattern of patterns)
    pattern.pairs(window, (pair, lastEnd, behind) => {
      const end = Math.min(lastEnd, window - 1);
      if (end <= first) return;
      const shift = window - 1 - end;
      shifts[pair] = Math.min(shifts[pair] ?? most, shift);
      if (behind === ANY) unescapedShifts[pair] = Math.min(unescapedShifts[pair] ?? most, shift);
      else behinds[pair] = (behinds[pair] ?? 0) | behind;
      if (shift > 0) return;
      const known = endingIn.get(pair);
      if (known === undefined) endingIn.set(pair, [pattern]);
      else if (known.at(-1) !== pattern) known.push(pattern);
    });
  const begins = beginningsOf(patterns);
  return (bytes, start, visit) => {
    const { length } = bytes;
    for (let at = start + window - 1; at < length; ) {
      const pair = pairOf(bytes[at - 1] ?? 0, bytes[at] ?? 0);
      let shift = shifts[pair] ?? 0;
      if (shift === 0 && ((behinds[pair] ?? 0) & kindOf(bytes[at - 2] ?? 0)) === 0)
        shift = unescapedShifts[pair] ?? 0;
      if (shift > 0) {
        at += shift;
        continue;
      }
      const from = at - window + 1;
      if (begins[bytes[from] ?? 0] === 1 && visit(from, endingIn.get(pair) ?? [])) return;
      at += 1;
    }
  };
}

/** Looks at every byte: for a pattern of a single one there is nothing to skip. */
function byBytes(patterns: readonly Pattern[]): Search {
  const begins = beginningsOf(patterns);
  const beginningWith = new Map<number, Pattern[]>();
  for (const pattern of patterns)
    for (const byte of pattern.firsts)
      beginningWith.set(byte, [...(beginningWith.get(byte) ?? []), pattern]);
  return (bytes, start, visit) => {
    for (let at = start; at < bytes.length; at++) {
      const byte = bytes[at] ?? 0;
      if (begins[byte] === 1 && visit(at, beginningWith.get(byte) ?? [])) return;
    }
  };
}

function beginningsOf(patterns: readonly Pattern[]): Uint8Array {
  const begins = new Uint8Array(256);
  for (const { firsts } of patterns) for (const byte of firsts) begins[byte] = 1;
  return begins;
}

interface TailsDeps {
  readonly search: Search;
  readonly byByte: Search;
  readonly window: number;
  readonly longest: number;
  readonly leastOf: (pattern: Pattern) => number;
}

/** The first tail that is a beginning of a pattern and has at least as many bytes of it as `leastOf` says. */
function tailOf(bytes: Buffer, { search, byByte, window, longest, leastOf }: TailsDeps): number {
  const { length } = bytes;
  let found = length;
  const visit = (at: number, patterns: readonly Pattern[]): boolean => {
    const left = length - at;
    if (patterns.some((pattern) => left >= leastOf(pattern) && pattern.isOpenAt(bytes, at)))
      found = at;
    return found < length;
  };
  // What has a whole window is found as an occurrence is; only behind that each byte has to be looked at.
  search(bytes, Math.max(0, length - longest + 1), visit);
  if (found === length) byByte(bytes, Math.max(0, length - Math.min(longest, window) + 1), visit);
  return found;
}
