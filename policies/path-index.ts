import type { Method } from './document.ts';
import { hasMethod, type MethodSet } from './method-set.ts';
import type { Path } from './path.ts';
import type { PathPattern } from './path-pattern.ts';

/** What can be filed under paths. */
export interface PathRule {
  /** null: any path. */
  readonly paths: readonly PathPattern[] | null;
  readonly methodSet: MethodSet;
  /** Precedence: of two rules that fit, the one with the smaller number counts. */
  readonly order: number;
}

/** The part of a request that rules look at here. */
export interface PathRequest {
  readonly method: Method;
  readonly path: Path;
}

interface Node<R> {
  readonly literals: Map<string, Node<R>>;
  star: Node<R> | null;
  /** Rules with a pattern that ends here, and those with `**` from here on; both in order. */
  readonly closed: R[];
  readonly open: R[];
}

/**
 * The rules of one place by the segments of their paths. Finding looks at what shares a request's beginning alone: at one node
 * for each segment, and at one more wherever a pattern has `*`.
 */
export class PathIndex<R extends PathRule> {
  /** Of all rules together. */
  readonly methods: MethodSet;
  readonly #root: Node<R> = node();

  /** `rules` stand in order. */
  constructor(rules: readonly R[]) {
    this.methods = rules.reduce((set, rule) => set | rule.methodSet, 0);
    for (const rule of rules) {
      if (rule.paths === null) put(this.#root.open, rule);
      else for (const pattern of rule.paths) this.#add(pattern, rule);
    }
  }

  /** The rule of the smallest order whose method and path fit and which is `accepted`. */
  first<Q extends PathRequest>(
    request: Q,
    nowMs: number,
    accepted: (rule: R, request: Q, nowMs: number) => boolean,
  ): R | undefined {
    if (!hasMethod(this.methods, request.method)) return undefined;
    return firstBelow(this.#root, 0, undefined, request, nowMs, accepted);
  }

  #add({ segments, open }: PathPattern, rule: R): void {
    let at = this.#root;
    for (const segment of segments) at = child(at, segment);
    put(open ? at.open : at.closed, rule);
  }
}

function node<R>(): Node<R> {
  return { literals: new Map(), star: null, closed: [], open: [] };
}

function child<R>(parent: Node<R>, segment: string | null): Node<R> {
  if (segment === null) return (parent.star ??= node());
  let found = parent.literals.get(segment);
  if (!found) parent.literals.set(segment, (found = node()));
  return found;
}

/** Two patterns of one rule may end in one place. */
function put<R>(list: R[], rule: R): void {
  if (list.at(-1) !== rule) list.push(rule);
}

function firstBelow<R extends PathRule, Q extends PathRequest>(
  at: Node<R>,
  depth: number,
  best: R | undefined,
  request: Q,
  nowMs: number,
  accepted: (rule: R, request: Q, nowMs: number) => boolean,
): R | undefined {
  const { segments } = request.path;
  let found = firstOf(at.open, best, request, nowMs, accepted);
  if (depth === segments.length) return firstOf(at.closed, found, request, nowMs, accepted);
  const segment = segments[depth] ?? '';
  const literal = at.literals.get(segment);
  if (literal) found = firstBelow(literal, depth + 1, found, request, nowMs, accepted);
  if (at.star && segment !== '')
    found = firstBelow(at.star, depth + 1, found, request, nowMs, accepted);
  return found;
}

function firstOf<R extends PathRule, Q extends PathRequest>(
  rules: readonly R[],
  best: R | undefined,
  request: Q,
  nowMs: number,
  accepted: (rule: R, request: Q, nowMs: number) => boolean,
): R | undefined {
  for (const rule of rules) {
    if (best && rule.order >= best.order) return best;
    if (hasMethod(rule.methodSet, request.method) && accepted(rule, request, nowMs)) return rule;
  }
  return best;
}
