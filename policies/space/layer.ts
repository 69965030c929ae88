import { AddressIndex } from './address-index.ts';
import { EVERY_ADDRESS } from './address-set.ts';
import type { Box } from './box.ts';
import {
  aboveName,
  beneathName,
  everywhere,
  type NameNode,
  nameNode,
  namePlace,
} from './name-tree.ts';
import { addPath, meeting, type PathNode, pathNode } from './path-trie.ts';
import type { Precedence } from './precedence.ts';

/** What a layer holds: a box, and whatever it is a box of. */
export interface Filed {
  readonly box: Box;
  /** Of grants: which of several counts. */
  readonly precedence?: Precedence;
}

/** A union of boxes, filed by place and path, so that those that matter to some requests are found without looking at the others. */
export class Layer<T extends Filed> {
  readonly names: NameNode<T> = nameNode();
  readonly #addresses = new AddressIndex<T>();
  readonly #datasources = new Map<string, PathNode<T>>();
  readonly #everyDatasource: PathNode<T> = pathNode();

  constructor(items: Iterable<T> = []) {
    for (const item of items) this.add(item);
  }

  add(item: T): void {
    const { place, path, addresses } = item.box;
    if (place.kind === 'name') addPath(namePlace(this.names, place.pattern), path, item);
    else if (place.kind === 'datasource') addPath(this.#datasource(place.key), path, item);
    else this.#addresses.add(addresses ?? EVERY_ADDRESS, item);
  }

  #datasource(key: string | null): PathNode<T> {
    if (key === null) return this.#everyDatasource;
    let node = this.#datasources.get(key);
    if (!node) this.#datasources.set(key, (node = pathNode()));
    return node;
  }

  /** What holds requests to the place of `box`, but for items that name a part of that place; for addresses all that touch it. */
  around({ place, addresses }: Box): PathNode<T>[] {
    if (place.kind === 'name') return aboveName(this.names, place.pattern);
    if (place.kind === 'address') {
      const root = pathNode<T>();
      for (const item of this.#addresses.touching(addresses ?? EVERY_ADDRESS))
        addPath(root, item.box.path, item);
      return [root];
    }
    const named = place.key === null ? undefined : this.#datasources.get(place.key);
    return named ? [this.#everyDatasource, named] : [this.#everyDatasource];
  }

  /** Every item whose place and path meet those of `box`. */
  *meeting(box: Box): Generator<T> {
    for (const node of this.around(box)) yield* meeting(node, box.path);
    for (const node of this.#beneath(box)) yield* meeting(node, box.path);
  }

  *#beneath({ place }: Box): Generator<PathNode<T>> {
    if (place.kind === 'datasource' && place.key === null) yield* this.#datasources.values();
    if (place.kind !== 'name') return;
    if (place.pattern) yield* beneathName(this.names, place.pattern);
    else for (const child of this.names.children?.values() ?? []) yield* everywhere(child);
  }
}
