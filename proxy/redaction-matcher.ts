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

/** So many bytes of a pattern's beginning, or the half of a shorter one, give it away. */
const TELLING_BYTES = 8;

/**
 * After Wu and Manber, "A fast algorithm for multi-pattern searching" (1994): it looks at the last two of as many bytes as the shortest
 * pattern has, and moves on by how far away from the end any pattern has those two. The longer the shortest pattern, the fewer bytes it looks at.
 */
export function createMatcher(patterns: readonly Buffer[]): Matcher {
  const used = patterns.filter(({ length }) => length > 0);
  const window = used.reduce((least, { length }) => Math.min(least, length), Infinity);
  const nowhere = ({ length }: Buffer): number => length;
  if (used.length === 0)
    return { occurrences: () => [], tailStart: nowhere, tellingStart: nowhere };
  const occurrences = window === 1 ? oneByOne(used) : byPairs(used, window);
  return {
    occurrences,
    tailStart: tails(used, () => 1),
    tellingStart: tails(used, ({ length }) => Math.min(TELLING_BYTES, Math.ceil(length / 2))),
  };
}

/** For a pattern of a single byte there is nothing to skip. */
function oneByOne(patterns: readonly Buffer[]): Matcher['occurrences'] {
  return (bytes) => {
    const ranges: Range[] = [];
    for (const pattern of patterns)
      for (let at = bytes.indexOf(pattern); at >= 0; at = bytes.indexOf(pattern, at + 1))
        ranges.push([at, at + pattern.length]);
    return ranges;
  };
}

function byPairs(patterns: readonly Buffer[], window: number): Matcher['occurrences'] {
  const most = Math.min(window - 1, 255);
  const first = window - most - 1; // of a window that is longer than a shift can be, only its end is looked at
  const shifts = new Uint8Array(65_536).fill(most);
  const endingIn = new Map<number, Buffer[]>();
  for (const pattern of patterns) {
    for (let end = first + 1; end < window; end++) {
      const pair = pairAt(pattern, end);
      shifts[pair] = Math.min(shifts[pair] ?? most, window - 1 - end);
    }
    const last = pairAt(pattern, window - 1);
    endingIn.set(last, [...(endingIn.get(last) ?? []), pattern]);
  }
  return (bytes) => {
    const ranges: Range[] = [];
    const { length } = bytes;
    for (let at = window - 1; at < length; ) {
      const pair = pairAt(bytes, at);
      const shift = shifts[pair] ?? 0;
      if (shift > 0) {
        at += shift;
        continue;
      }
      const from = at - window + 1;
      for (const pattern of endingIn.get(pair) ?? [])
        if (isAt(bytes, pattern, from)) ranges.push([from, from + pattern.length]);
      at += 1;
    }
    return ranges;
  };
}

function pairAt(bytes: Buffer, end: number): number {
  return ((bytes[end - 1] ?? 0) << 8) | (bytes[end] ?? 0);
}

function isAt(bytes: Buffer, pattern: Buffer, from: number): boolean {
  if (from + pattern.length > bytes.length) return false;
  return bytes.compare(pattern, 0, pattern.length, from, from + pattern.length) === 0;
}

/** Finds tails that are a beginning of a pattern and have at least as many bytes of it as `leastOf` says. */
function tails(
  patterns: readonly Buffer[],
  leastOf: (pattern: Buffer) => number,
): (bytes: Buffer) => number {
  const longest = patterns.reduce((most, { length }) => Math.max(most, length), 0);
  const beginningWith = new Map<number, { pattern: Buffer; least: number }[]>();
  const begins = new Uint8Array(256);
  for (const pattern of patterns) {
    const byte = pattern[0] ?? 0;
    begins[byte] = 1;
    beginningWith.set(byte, [
      ...(beginningWith.get(byte) ?? []),
      { pattern, least: leastOf(pattern) },
    ]);
  }
  return (bytes) => {
    const { length } = bytes;
    for (let at = Math.max(0, length - longest + 1); at < length; at++) {
      const byte = bytes[at] ?? 0;
      if (begins[byte] === 0) continue;
      const left = length - at;
      for (const { pattern, least } of beginningWith.get(byte) ?? [])
        if (
          left >= least &&
          left < pattern.length &&
          bytes.compare(pattern, 0, left, at, length) === 0
        )
          return at;
    }
    return length;
  };
}
