import type { AddressRange, AddressSet } from './address-set.ts';

interface Entry<T> extends AddressRange {
  readonly items: T[];
}

/** Items by the ranges they cover; finds those that touch some addresses. */
export class AddressIndex<T> {
  readonly #byRange = new Map<string, Entry<T>>();
  #sorted: Sorted<T> | null = null;

  add(addresses: AddressSet, item: T): void {
    this.#sorted = null;
    for (const { first, last } of addresses) {
      const key = `${first}-${last}`;
      const entry = this.#byRange.get(key);
      if (entry) entry.items.push(item);
      else this.#byRange.set(key, { first, last, items: [item] });
    }
  }

  /** Each once. */
  touching(addresses: AddressSet): Set<T> {
    const { entries, furthest } = (this.#sorted ??= sortedOf([...this.#byRange.values()]));
    const found = new Set<T>();
    for (const { first, last } of addresses) {
      // From the last entry that begins in time back to where nothing reaches this far any more.
      for (let i = countUntil(entries, last) - 1; i >= 0; i--) {
        if ((furthest[i] ?? 0n) < first) break;
        const entry = entries[i];
        if (entry && entry.last >= first) for (const item of entry.items) found.add(item);
      }
    }
    return found;
  }
}

interface Sorted<T> {
  readonly entries: readonly Entry<T>[];
  /** How far any entry up to this one reaches. */
  readonly furthest: readonly bigint[];
}

function sortedOf<T>(all: readonly Entry<T>[]): Sorted<T> {
  const entries = all.toSorted((a, b) => (a.first < b.first ? -1 : a.first > b.first ? 1 : 0));
  let reached = -1n;
  const furthest = entries.map(({ last }) => (reached = last > reached ? last : reached));
  return { entries, furthest };
}

/** How many entries begin at or before `address`. */
function countUntil(entries: readonly AddressRange[], address: bigint): number {
  let [low, high] = [0, entries.length];
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((entries[middle]?.first ?? 0n) <= address) low = middle + 1;
    else high = middle;
  }
  return low;
}
