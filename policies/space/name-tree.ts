import type { HostPattern } from '../host-pattern.ts';
import { type PathNode, pathNode } from './path-trie.ts';

/** What is filed under names: each node is a name, its children have one label more in front. */
export interface NameNode<T> {
  /** null until there is one. */
  children: Map<string, NameNode<T>> | null;
  /** Filed under this very name. */
  exact: PathNode<T> | null;
  /** Filed under every name beneath this one. */
  below: PathNode<T> | null;
}

export function nameNode<T>(): NameNode<T> {
  return { children: null, exact: null, below: null };
}

/** Where items for a pattern stand; made if there is nothing yet. A pattern of null is every name. */
export function namePlace<T>(root: NameNode<T>, pattern: HostPattern | null): PathNode<T> {
  let node = root;
  for (const label of labelsOf(pattern)) {
    const children = (node.children ??= new Map());
    let next = children.get(label);
    if (!next) children.set(label, (next = nameNode()));
    node = next;
  }
  if (pattern && !pattern.wildcard) return (node.exact ??= pathNode());
  return (node.below ??= pathNode());
}

/** Everything that is filed for every name of `pattern`: under itself and under what is wider. */
export function aboveName<T>(root: NameNode<T>, pattern: HostPattern | null): PathNode<T>[] {
  const found: PathNode<T>[] = [];
  let node: NameNode<T> | undefined = root;
  for (const label of labelsOf(pattern)) {
    if (node.below) found.push(node.below);
    node = node.children?.get(label);
    if (!node) return found;
  }
  const own = pattern && !pattern.wildcard ? node.exact : node.below;
  if (own) found.push(own);
  return found;
}

/** What is filed under patterns narrower than `pattern`. */
export function* beneathName<T>(root: NameNode<T>, pattern: HostPattern): Generator<PathNode<T>> {
  const node = pattern.wildcard ? nodeOf(root, pattern) : undefined;
  for (const child of node?.children?.values() ?? []) yield* everywhere(child);
}

/** Everything that is filed. */
export function* everywhere<T>(node: NameNode<T>): Generator<PathNode<T>> {
  if (node.exact) yield node.exact;
  if (node.below) yield node.below;
  for (const child of node.children?.values() ?? []) yield* everywhere(child);
}

/**
 * A name of `pattern` that none of the trees names more closely than `pattern` does: whatever is filed for it is filed for all.
 * Undefined where all names that are short enough are taken.
 */
export function unnamedHost<T>(
  roots: readonly NameNode<T>[],
  pattern: HostPattern | null,
): string | undefined {
  if (pattern && !pattern.wildcard) return pattern.name;
  const nodes = roots.flatMap((root) => nodeOf(root, pattern) ?? []);
  const isFree = (label: string) => !nodes.some(({ children }) => children?.has(label));
  if (!pattern) {
    const domain = firstOf(labels('example'), isFree);
    return domain && `any.${domain}`;
  }
  const room = NAME_MAX - pattern.name.length - 1;
  const label = firstOf(room < 16 ? shortLabels(room) : labels('any'), isFree);
  return label && `${label}.${pattern.name}`;
}

/** RFC 1035, without the root's dot. */
const NAME_MAX = 253;

function firstOf(all: Iterable<string>, isFree: (label: string) => boolean): string | undefined {
  for (const label of all) if (isFree(label)) return label;
  return undefined;
}

/** Endless. */
function* labels(word: string): Generator<string> {
  yield word;
  for (let i = 1; ; i++) yield `${word}${i}`;
}

/** For a name so long that there is hardly room before it. */
function* shortLabels(room: number): Generator<string> {
  const letters = 'abcdefghijklmnopqrstuvwxyz0123456789_'.split('');
  if (room < 1) return;
  yield* letters;
  if (room < 2) return;
  for (const a of letters) for (const b of letters) yield `${a}${b}`;
  if (room < 3) return;
  for (const label of labels('x')) {
    if (label.length > room) return;
    if (label.length > 2) yield label;
  }
}

function nodeOf<T>(root: NameNode<T>, pattern: HostPattern | null): NameNode<T> | undefined {
  let node: NameNode<T> | undefined = root;
  for (const label of labelsOf(pattern)) node = node?.children?.get(label);
  return node;
}

/** From the last label to the first. */
function labelsOf(pattern: HostPattern | null): string[] {
  return pattern ? pattern.name.split('.').toReversed() : [];
}
