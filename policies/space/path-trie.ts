import type { PathPattern } from '../path-pattern.ts';

/** Items filed under path patterns, by segment, so that those of one path are found without looking at the others. */
export interface PathNode<T> {
  /** By segment; null until there is one, since most nodes have none. */
  literal: Map<string, PathNode<T>> | null;
  star: PathNode<T> | null;
  /** Of patterns that end here. */
  end: T[] | null;
  /** Of patterns that go on from here with `**`. */
  open: T[] | null;
}

export function pathNode<T>(): PathNode<T> {
  return { literal: null, star: null, end: null, open: null };
}

export function addPath<T>(root: PathNode<T>, { segments, open }: PathPattern, item: T): void {
  let node = root;
  for (const segment of segments) {
    if (segment === null) node = node.star ??= pathNode();
    else {
      const literal = (node.literal ??= new Map());
      let next = literal.get(segment);
      if (!next) literal.set(segment, (next = pathNode()));
      node = next;
    }
  }
  const items = open ? (node.open ??= []) : (node.end ??= []);
  items.push(item);
}

/** Where to look for items that hold a path, and which of those count; absent: all. */
export interface PathRoot<T> {
  readonly root: PathNode<T>;
  readonly counts?: ((item: T) => boolean) | undefined;
}

/**
 * Paths of `pattern` such that whatever items one of its paths can stay clear of, one of these does: a segment that `pattern`
 * leaves open is best one that no item names, so only the length and a slash at the end are left to try. Each comes with the
 * items whose patterns match it. Ends early where `covered` says that what holds every longer path leaves nothing.
 */
export function* clearPaths<T>(
  roots: readonly PathRoot<T>[],
  pattern: PathPattern,
  covered: (items: readonly T[]) => boolean,
): Generator<{ readonly path: string; readonly items: readonly T[] }> {
  let nodes = roots.map(({ root, counts }) => ({ node: root, counts }));
  const path: string[] = [];
  const open: T[] = nodes.flatMap((at) => counted(at, at.node.open));
  const go = (segment: string) => {
    path.push(segment);
    nodes = step(nodes, segment);
    for (const at of nodes) open.push(...counted(at, at.node.open));
  };
  const ending = (at: readonly Live<T>[]) => at.flatMap((one) => counted(one, one.node.end));
  const text = (...more: readonly string[]) => `/${[...path, ...more].join('/')}`;

  for (const want of pattern.segments) go(want ?? unnamed(nodes));
  if (path.length > 0) yield { path: text(), items: [...open, ...ending(nodes)] };
  while (pattern.open && !covered(open)) {
    yield { path: text(''), items: [...open, ...ending(step(nodes, ''))] };
    go(unnamed(nodes));
    yield { path: text(), items: [...open, ...ending(nodes)] };
    // Beyond the last star every longer path meets the same items.
    if (nodes.length === 0) break;
  }
}

interface Live<T> {
  readonly node: PathNode<T>;
  readonly counts: ((item: T) => boolean) | undefined;
}

function counted<T>({ counts }: Live<T>, items: readonly T[] | null): readonly T[] {
  if (items === null) return [];
  return counts ? items.filter(counts) : items;
}

/** Every item whose pattern has a path in common with `pattern`. */
export function* meeting<T>(node: PathNode<T>, pattern: PathPattern, at = 0): Generator<T> {
  if (node.open) yield* node.open;
  if (at === pattern.segments.length) {
    if (pattern.open) yield* beneath(node);
    else if (node.end) yield* node.end;
    return;
  }
  const want = pattern.segments[at];
  if (want === null) {
    // A star stands for no empty segment.
    for (const [name, next] of node.literal ?? [])
      if (name !== '') yield* meeting(next, pattern, at + 1);
  } else {
    const next = node.literal?.get(want ?? '');
    if (next) yield* meeting(next, pattern, at + 1);
  }
  if (node.star && want !== '') yield* meeting(node.star, pattern, at + 1);
}

/** The pattern of the paths that both match; undefined where there is none. */
export function commonPattern(a: PathPattern, b: PathPattern): PathPattern | undefined {
  const length = Math.max(a.segments.length, b.segments.length);
  if ((!a.open && a.segments.length < length) || (!b.open && b.segments.length < length)) {
    return undefined;
  }
  const segments: (string | null)[] = [];
  for (let i = 0; i < length; i++) {
    const [left, right] = [a.segments[i], b.segments[i]];
    const both = left !== undefined && right !== undefined;
    const one = left === undefined || left === null ? right : left;
    if (both && left !== null && right !== null && left !== right) return undefined;
    if (both && one === '' && (left === null || right === null)) return undefined;
    segments.push(one ?? null);
  }
  const open = a.open && b.open;
  // An empty segment stands only at the end of a path.
  if (segments.slice(0, open ? undefined : -1).includes('')) return undefined;
  // A star that is a letter is written so that it is read as one.
  const words = segments.map((one) => one?.replaceAll('*', '%2A') ?? '*');
  return { text: `/${[...words, ...(open ? ['**'] : [])].join('/')}`, segments, open };
}

function* beneath<T>(node: PathNode<T>, isRoot = true): Generator<T> {
  if (!isRoot && node.open) yield* node.open;
  if (node.end) yield* node.end;
  for (const next of node.literal?.values() ?? []) yield* beneath(next, false);
  if (node.star) yield* beneath(node.star, false);
}

function step<T>(live: readonly Live<T>[], segment: string): Live<T>[] {
  const next: Live<T>[] = [];
  for (const { node, counts } of live) {
    const named = node.literal?.get(segment);
    if (named) next.push({ node: named, counts });
    if (node.star && segment !== '') next.push({ node: node.star, counts });
  }
  return next;
}

/** A segment that no item names at this place. */
function unnamed<T>(live: readonly Live<T>[]): string {
  for (let i = 0; ; i++) {
    const segment = i === 0 ? 'any' : `any${i}`;
    if (!live.some(({ node }) => node.literal?.has(segment))) return segment;
  }
}
