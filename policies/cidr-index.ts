import { type Cidr, cidrCovers } from './ip.ts';

/** One range with what is filed under it. Ranges either nest or do not meet, so those around one form a chain. */
interface Range<T> {
  readonly cidr: Cidr;
  readonly item: T;
  readonly outer: Range<T> | null;
}

/**
 * Finds the ranges that hold an address by halving: the line of addresses is cut where ranges begin and end, and each piece
 * knows its innermost range. Immutable once made.
 */
export class CidrIndex<T> {
  /** Where the pieces begin: four words each, ascending. */
  readonly #begins: Uint32Array;
  readonly #innermost: readonly (Range<T> | null)[];

  private constructor(pieces: readonly Piece<T>[]) {
    this.#begins = new Uint32Array(pieces.length * 4);
    for (const [i, { begin }] of pieces.entries()) this.#begins.set(begin, i * 4);
    this.#innermost = pieces.map(({ range }) => range);
  }

  /** Items that share a range are given to `file` together, in the order of `entries`. */
  static of<R, T>(
    entries: Iterable<readonly [Cidr, R]>,
    file: (items: readonly R[]) => T,
  ): CidrIndex<T> {
    const groups = new Map<string, { readonly cidr: Cidr; readonly items: R[] }>();
    for (const [cidr, item] of entries) {
      const key = `${cidr.base.join('.')}/${cidr.bits}`;
      const group = groups.get(key);
      if (group) group.items.push(item);
      else groups.set(key, { cidr, items: [item] });
    }
    const sorted = [...groups.values()].toSorted((a, b) => inOrder(a.cidr, b.cidr));
    return new CidrIndex(cutLine(sorted.map(({ cidr, items }) => ({ cidr, item: file(items) }))));
  }

  /** What holds `address`, the narrowest range first. */
  holding(address: Uint8Array): readonly T[] {
    const found: T[] = [];
    for (let range = this.#at(address); range !== null; range = range.outer) found.push(range.item);
    return found;
  }

  /** The item of the narrowest range that holds `address`. */
  innermost(address: Uint8Array): T | undefined {
    return this.#at(address)?.item;
  }

  has(address: Uint8Array): boolean {
    return this.#at(address) !== null;
  }

  /** The innermost range of the last piece that begins at or before `address`. */
  #at(address: Uint8Array): Range<T> | null {
    const begins = this.#begins;
    const [a, b, c, d] = [word(address, 0), word(address, 4), word(address, 8), word(address, 12)];
    let [low, high] = [0, this.#innermost.length];
    while (low < high) {
      const middle = (low + high) >>> 1;
      const at = middle * 4;
      const difference =
        (begins[at] ?? 0) - a ||
        (begins[at + 1] ?? 0) - b ||
        (begins[at + 2] ?? 0) - c ||
        (begins[at + 3] ?? 0) - d;
      if (difference <= 0) low = middle + 1;
      else high = middle;
    }
    return low === 0 ? null : (this.#innermost[low - 1] ?? null);
  }
}

interface Piece<T> {
  readonly begin: readonly number[];
  readonly range: Range<T> | null;
}

/** By beginning; of two with the same beginning the wider first. */
function inOrder(a: Cidr, b: Cidr): number {
  for (let i = 0; i < 16; i++) {
    const difference = (a.base[i] ?? 0) - (b.base[i] ?? 0);
    if (difference !== 0) return difference;
  }
  return a.bits - b.bits;
}

/** The line of addresses, cut. Where two pieces begin at one place the later one counts. */
function cutLine<T>(sorted: readonly { readonly cidr: Cidr; readonly item: T }[]): Piece<T>[] {
  const cut: Piece<T>[] = [];
  let open: Range<T> | null = null;
  const close = (range: Range<T>): Range<T> | null => {
    const begin = behind(range.cidr);
    if (begin) cut.push({ begin, range: range.outer });
    return range.outer;
  };
  for (const { cidr, item } of sorted) {
    while (open !== null && !cidrCovers(open.cidr, cidr)) open = close(open);
    open = { cidr, item, outer: open };
    cut.push({ begin: words(cidr.base), range: open });
  }
  while (open !== null) open = close(open);
  return cut;
}

function words(address: Uint8Array): number[] {
  return [0, 4, 8, 12].map((at) => word(address, at));
}

function word(address: Uint8Array, at: number): number {
  return (
    (((address[at] ?? 0) << 24) |
      ((address[at + 1] ?? 0) << 16) |
      ((address[at + 2] ?? 0) << 8) |
      (address[at + 3] ?? 0)) >>>
    0
  );
}

/** The first address behind a range; undefined where the range ends with the last of all. */
function behind({ base, bits }: Cidr): number[] | undefined {
  if (bits === 0) return undefined;
  const next = Uint8Array.from(base);
  let add = 1 << (7 - ((bits - 1) & 7));
  for (let i = (bits - 1) >> 3; i >= 0; i--) {
    const sum = (next[i] ?? 0) + add;
    next[i] = sum & 0xff;
    if (sum < 256) return words(next);
    add = 1;
  }
  return undefined;
}
