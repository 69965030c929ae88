/** Two bytes that stand together, as one number. */
export type Pair = number;

/** What a matcher looks for at a place. */
export interface Pattern {
  /** Bytes that it has at least and at most. */
  readonly shortest: number;
  readonly longest: number;
  /** The bytes that it can begin with. */
  readonly firsts: readonly number[];
  /** Calls `take` with each pair that it can have before `window`. */
  pairs(window: number, take: TakePair): void;
  /** How long it is where it begins at `from`, the longest way; 0 where it does not. */
  lengthAt(bytes: Buffer, from: number): number;
  /** Whether all bytes from `from` on are its beginning, and more of it may come. */
  isOpenAt(bytes: Buffer, from: number): boolean;
}

/**
 * `end` is the last place where the pair can end, be it behind the window; `behind` is the set of the kinds of all bytes that it can come
 * behind in the pattern.
 */
export type TakePair = (pair: Pair, end: number, behind: number) => void;

export function pairOf(first: number, second: number): Pair {
  return (first << 8) | second;
}

/** Escapes are told from numbers and words by what their bytes come behind. */
const KINDS = [/[%\\&#xXu]/, /0/, /1/, /\d/, /[a-f]/i, /[g-o]/i, /[p-z]/i, /[^]/];
const KIND_OF = Uint8Array.from(
  { length: 256 },
  (_, byte) => 1 << KINDS.findIndex((kind) => kind.test(String.fromCharCode(byte))),
);
/** The set of all kinds. */
export const ANY = 2 ** KINDS.length - 1;

/** The kind of a byte, as a set with nothing else. */
export function kindOf(byte: number): number {
  return KIND_OF[byte] ?? ANY;
}

function kindsOf(bytes: readonly number[]): number {
  return bytes.reduce((kinds, byte) => kinds | kindOf(byte), 0);
}

/** A pattern that is written in one way. */
export function literal(text: Buffer): Pattern {
  const { length } = text;
  return {
    shortest: length,
    longest: length,
    firsts: [...text.subarray(0, 1)],
    pairs(window, take) {
      for (let end = 1; end < window; end++)
        take(pairOf(text[end - 1] ?? 0, text[end] ?? 0), end, ANY);
    },
    lengthAt: (bytes, from) =>
      from + length <= bytes.length && bytes.compare(text, 0, length, from, from + length) === 0
        ? length
        : 0,
    isOpenAt(bytes, from) {
      const left = bytes.length - from;
      return left < length && bytes.compare(text, 0, left, from) === 0;
    },
  };
}

/** The ways to write one character, as a tree of bytes. */
export class Character {
  readonly root = new Node();
  shortest = Infinity;
  longest = 0;
  /** The ways that are a single byte. */
  readonly singles = new Set<number>();
  /** The last bytes of the others, and the kinds of what they come behind. */
  readonly lasts = new Map<number, number>();
  /** The kinds of all bytes that it can end with. */
  lastKinds = 0;
  /** The pairs inside the ways, for `TakePair`, by pair and end. */
  readonly #inner = new Map<number, Parameters<TakePair>>();

  /** One more way; with `anyCase` its letters may be of either case. */
  add(written: string, anyCase = false): this {
    const steps = [...Buffer.from(written)].map((byte) => (anyCase ? bothCases(byte) : [byte]));
    let node = this.root;
    for (const step of steps) node = node.grow(step);
    node.isEnd = true;
    this.shortest = Math.min(this.shortest, steps.length);
    this.longest = Math.max(this.longest, steps.length);
    this.#note(steps);
    return this;
  }

  get inner(): Iterable<Parameters<TakePair>> {
    return this.#inner.values();
  }

  #note(steps: readonly (readonly number[])[]): void {
    steps.slice(1).forEach((step, at) => {
      const before = steps[at] ?? [];
      const behind = at === 0 ? ANY : kindsOf(steps[at - 1] ?? []);
      for (const first of before)
        for (const second of step) {
          const key = pairOf(first, second) + at * 0x1_0000;
          const known = this.#inner.get(key)?.[2] ?? 0;
          this.#inner.set(key, [pairOf(first, second), at + 1, known | behind]);
        }
    });
    for (const last of steps.at(-1) ?? []) {
      this.lastKinds |= kindOf(last);
      if (steps.length === 1) this.singles.add(last);
      else this.lasts.set(last, (this.lasts.get(last) ?? 0) | kindsOf(steps.at(-2) ?? []));
    }
  }
}

class Node {
  readonly next = new Map<number, Node>();
  /** Whether the character may be complete here. */
  isEnd = false;

  /** What follows by any of the bytes. */
  grow(alike: readonly number[]): Node {
    const node = this.next.get(alike[0] ?? 0) ?? new Node();
    for (const byte of alike) this.next.set(byte, node);
    return node;
  }
}

function bothCases(byte: number): number[] {
  const text = String.fromCharCode(byte);
  return [text.toLowerCase(), text.toUpperCase()].map((char) => char.charCodeAt(0));
}

/** A way of reading that fits so far: amid a character, or before it. */
interface Reading {
  readonly index: number;
  readonly node: Node;
}

/**
 * A pattern whose characters are written each in any of its ways, together in at least `leastBytes`. All readings are followed at once:
 * where they are many, since a `%` may be itself or begin an escape, the time is bounded by bytes times characters.
 */
export function spelled(characters: readonly Character[], leastBytes: number): Pattern {
  const read = (bytes: Buffer, from: number): { length: number; isOpen: boolean } => {
    let readings = beginning(characters, 0);
    let to = from;
    for (let at = from; at < bytes.length && readings.length > 0; at++) {
      const further: Reading[] = [];
      for (const { index, node } of readings) {
        const reached = node.next.get(bytes[at] ?? 0);
        if (reached === undefined) continue;
        if (reached.next.size > 0) further.push({ index, node: reached });
        if (!reached.isEnd) continue;
        if (index + 1 === characters.length) to = at + 1;
        for (const begun of beginning(characters, index + 1))
          if (!further.some((other) => isSame(other, begun))) further.push(begun);
      }
      readings = further;
    }
    return { length: to - from >= leastBytes ? to - from : 0, isOpen: readings.length > 0 };
  };
  return {
    shortest: Math.max(leastBytes, sum(characters, 'shortest')),
    longest: sum(characters, 'longest'),
    firsts: [...(characters[0]?.root.next.keys() ?? [])],
    pairs: (window, take) => pairsOf(characters, window, take),
    lengthAt: (bytes, from) => read(bytes, from).length,
    isOpenAt: (bytes, from) => read(bytes, from).isOpen,
  };
}

function beginning(characters: readonly Character[], index: number): Reading[] {
  const character = characters[index];
  return character ? [{ index, node: character.root }] : [];
}

function isSame(one: Reading, other: Reading): boolean {
  return one.index === other.index && one.node === other.node;
}

function sum(characters: readonly Character[], of: 'shortest' | 'longest'): number {
  return characters.reduce((total, character) => total + character[of], 0);
}

/** A character begins anywhere between two places: the first where all before it are written the shortest way, the last the longest. */
function pairsOf(characters: readonly Character[], window: number, take: TakePair): void {
  let [first, last] = [0, 0];
  let before: Character | undefined;
  let kindsBeforeThat = 0;
  // What can end behind the window need be said once.
  const said = new Set<Character>();
  for (const character of characters) {
    if (first >= window) return;
    for (const byte of before ? character.root.next.keys() : []) {
      for (const single of before?.singles ?? []) {
        take(pairOf(single, byte), first, ANY);
        // Elsewhere only behind a character that is written longer.
        if (last > first && kindsBeforeThat) take(pairOf(single, byte), last, kindsBeforeThat);
      }
      for (const [end, behind] of before?.lasts ?? []) take(pairOf(end, byte), last, behind);
    }
    if (!said.has(character))
      for (const [pair, end, behind] of character.inner) take(pair, last + end, behind);
    if (last >= window) said.add(character);
    first += character.shortest;
    last += character.longest;
    kindsBeforeThat = before?.lastKinds ?? 0;
    before = character;
  }
}
