import { type HostPattern } from './host-pattern.ts';

/**
 * Finds what is filed under a host in a time that depends on its labels alone: one look-up for the exact name and one for
 * each suffix.
 */
export class HostIndex<T> {
  readonly #exact = new Map<string, T[]>();
  readonly #below = new Map<string, T[]>();

  add({ name, wildcard }: HostPattern, item: T): void {
    const map = wildcard ? this.#below : this.#exact;
    const bucket = map.get(name);
    if (bucket) bucket.push(item);
    else map.set(name, [item]);
  }

  /** The buckets that name `host`, the most specific first; each in the order of adding. */
  *buckets(host: string): Generator<readonly T[]> {
    const exact = this.#exact.get(host);
    if (exact) yield exact;
    if (this.#below.size === 0) return;
    for (let dot = host.indexOf('.'); dot !== -1; dot = host.indexOf('.', dot + 1)) {
      const below = this.#below.get(host.slice(dot + 1));
      if (below) yield below;
    }
  }

  has(host: string): boolean {
    return !this.buckets(host).next().done;
  }
}
