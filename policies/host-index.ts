import { NAME_MAX } from './host.ts';
import type { HostPattern } from './host-pattern.ts';

/**
 * Finds what is filed under a host in a time that depends on its labels alone: one look-up for the exact name and one for
 * each suffix. Immutable once made.
 */
export class HostIndex<T> {
  readonly #exact = new Map<string, T>();
  readonly #below = new Map<string, T>();
  /** Which lengths the names of `#below` have: a suffix of another length need not be cut out and looked up. */
  readonly #lengths = new Uint8Array(NAME_MAX + 1);

  /** Items that share a pattern are given to `file` together, in the order of `entries`. */
  static of<R, T>(
    entries: Iterable<readonly [HostPattern, R]>,
    file: (items: readonly R[]) => T,
  ): HostIndex<T> {
    const exact = new Map<string, R[]>();
    const below = new Map<string, R[]>();
    for (const [{ name, wildcard }, item] of entries) {
      const map = wildcard ? below : exact;
      const items = map.get(name);
      if (items) items.push(item);
      else map.set(name, [item]);
    }
    const index = new HostIndex<T>();
    for (const [name, items] of exact) index.#exact.set(name, file(items));
    for (const [name, items] of below) {
      index.#below.set(name, file(items));
      index.#lengths[name.length] = 1;
    }
    return index;
  }

  /** What names `host`, the most specific first. */
  naming(host: string): readonly T[] {
    const found: T[] = [];
    const exact = this.#exact.get(host);
    if (exact !== undefined) found.push(exact);
    if (this.#below.size === 0) return found;
    for (let dot = host.indexOf('.'); dot !== -1; dot = host.indexOf('.', dot + 1)) {
      const below = this.#beneath(host, dot);
      if (below !== undefined) found.push(below);
    }
    return found;
  }

  has(host: string): boolean {
    if (this.#exact.has(host)) return true;
    if (this.#below.size === 0) return false;
    for (let dot = host.indexOf('.'); dot !== -1; dot = host.indexOf('.', dot + 1))
      if (this.#beneath(host, dot) !== undefined) return true;
    return false;
  }

  #beneath(host: string, dot: number): T | undefined {
    const isOne = this.#lengths[host.length - dot - 1] === 1;
    return isOne ? this.#below.get(host.slice(dot + 1)) : undefined;
  }
}
