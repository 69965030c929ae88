/**
 * Things that come and go thousands of times a second, in no order. A `Set` makes a new table every few of them, and each old table
 * keeps the next one, with all that it holds, from being collected: then every request outlives its time in memory.
 */
export class OpenList<T> implements Iterable<T> {
  readonly #items: T[] = [];

  get size(): number {
    return this.#items.length;
  }

  /** `item` must not be in it. */
  add(item: T): void {
    this.#items.push(item);
  }

  /** Does nothing where `item` is not in it. Quick for what came lately, which is most of what goes. */
  delete(item: T): void {
    const at = this.#items.lastIndexOf(item);
    if (at === -1) return;
    const last = this.#items.pop();
    if (last !== undefined && at < this.#items.length) this.#items[at] = last;
  }

  /** Those that are in it now: what comes and goes meanwhile changes nothing. */
  [Symbol.iterator](): Iterator<T> {
    return [...this.#items].values();
  }
}
