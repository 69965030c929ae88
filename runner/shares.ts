import type { Principal } from '#core/principal';
import { principalKey } from '#core/principal';

/** Of a principal, what says whose something is. */
export type Owner = Pick<Principal, 'issuer' | 'tenant' | 'subject'>;

interface Item {
  readonly tenant: string;
  readonly owner: string;
  readonly bytes: number;
}

/** A sum and what it is of, the oldest first. */
interface Heap<T> {
  bytes: number;
  readonly of: T;
}

/**
 * What is kept for everybody in one place, and who has how much of it. Where it is too much, the oldest of that owner goes first who
 * has the most in the tenant that has the most: nobody crowds out another who keeps less.
 */
export class Shares<T> {
  readonly #items = new Map<T, Item>();
  readonly #tenants = new Map<string, Heap<Map<string, Heap<Set<T>>>>>();
  #bytes = 0;

  /** All together. */
  get bytes(): number {
    return this.#bytes;
  }

  has(item: T): boolean {
    return this.#items.has(item);
  }

  /** Takes it in as its owner's newest. What is in already stays as it is. */
  add(item: T, who: Owner, bytes: number): void {
    if (this.#items.has(item)) return;
    const { tenant } = who;
    const owner = principalKey({ ...who, groups: [], claims: {} });
    this.#items.set(item, { tenant, owner, bytes });
    const owners = heapOf(this.#tenants, tenant, () => new Map<string, Heap<Set<T>>>());
    const mine = heapOf(owners.of, owner, () => new Set<T>());
    mine.of.add(item);
    for (const heap of [owners, mine]) heap.bytes += bytes;
    this.#bytes += bytes;
  }

  /** Lets go of it. Returns whether it was there. */
  delete(item: T): boolean {
    const known = this.#items.get(item);
    if (!known) return false;
    const { tenant, owner, bytes } = known;
    this.#items.delete(item);
    const owners = this.#tenants.get(tenant);
    const mine = owners?.of.get(owner);
    mine?.of.delete(item);
    for (const heap of [owners, mine]) if (heap) heap.bytes -= bytes;
    if (mine?.of.size === 0) owners?.of.delete(owner);
    if (owners?.of.size === 0) this.#tenants.delete(tenant);
    this.#bytes -= bytes;
    return true;
  }

  /** What goes first; undefined where there is nothing. */
  get first(): T | undefined {
    const mine = largest(largest(this.#tenants)?.of);
    return mine?.of.values().next().value;
  }
}

function heapOf<T>(heaps: Map<string, Heap<T>>, key: string, make: () => T): Heap<T> {
  const known = heaps.get(key);
  if (known) return known;
  const made = { bytes: 0, of: make() };
  heaps.set(key, made);
  return made;
}

function largest<T>(heaps: ReadonlyMap<string, Heap<T>> | undefined): Heap<T> | undefined {
  let most: Heap<T> | undefined;
  for (const heap of heaps?.values() ?? []) if (!most || heap.bytes > most.bytes) most = heap;
  return most;
}
