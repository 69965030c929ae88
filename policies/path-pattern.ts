import { parsePath } from './path.ts';

/**
 * `/repos/acme/*` or `/repos/**`: `*` stands for exactly one segment that is not empty, `**` at the end for any number of
 * segments, also for none. Everything else is compared letter by letter, case included.
 */
export interface PathPattern {
  readonly text: string;
  /** What stands before `**`. `null` is `*`. */
  readonly segments: readonly (string | null)[];
  /** Whether `**` ends it. */
  readonly open: boolean;
}

/** Text: what is wrong with the pattern. */
export function parsePathPattern(text: string): PathPattern | string {
  const path = parsePath(text);
  if (typeof path === 'string')
    return 'a path begins with "/" and is canonical: no %, ;, //, . or ..';
  const open = path.segments.at(-1) === '**';
  const fixed = open ? path.segments.slice(0, -1) : path.segments;
  if (fixed.includes('**')) return '"**" may only end a path';
  if (fixed.some((segment) => segment.includes('*') && segment !== '*')) {
    return '"*" stands for a whole segment';
  }
  return { text, segments: fixed.map((segment) => (segment === '*' ? null : segment)), open };
}

export function matchesPath(pattern: PathPattern, segments: readonly string[]): boolean {
  const { segments: wanted, open } = pattern;
  if (open ? segments.length < wanted.length : segments.length !== wanted.length) return false;
  for (let i = 0; i < wanted.length; i++) {
    const want = wanted[i];
    if (want === null ? segments[i] === '' : segments[i] !== want) return false;
  }
  return true;
}

/** Whether every path of `inner` is one of `outer`. */
export function pathCovers(outer: PathPattern, inner: PathPattern): boolean {
  if (inner.open && !outer.open) return false;
  if (
    outer.open
      ? inner.segments.length < outer.segments.length
      : inner.segments.length !== outer.segments.length
  ) {
    return false;
  }
  return outer.segments.every((want, i) => {
    const has = inner.segments[i];
    return want === null ? has !== '' : has === want;
  });
}

/** A path that both patterns match, if there is one. */
export function commonPath(a: PathPattern, b: PathPattern): string | undefined {
  const length = Math.max(a.segments.length, b.segments.length);
  if (!a.open && a.segments.length !== length) return undefined;
  if (!b.open && b.segments.length !== length) return undefined;
  const segments: string[] = [];
  for (let i = 0; i < length; i++) {
    const [left, right] = [at(a, i), at(b, i)];
    if (left.fixed !== undefined && right.fixed !== undefined && left.fixed !== right.fixed) {
      return undefined;
    }
    const fixed = left.fixed ?? right.fixed;
    if (fixed === '' && (left.star || right.star)) return undefined;
    // An empty segment may only be the last.
    if (fixed === '' && i < length - 1) return undefined;
    segments.push(fixed ?? 'any');
  }
  return `/${segments.join('/')}`;
}

/** What a pattern wants at one place: a fixed segment, any that is not empty, or (behind `**`) any at all. */
function at({ segments }: PathPattern, i: number): { fixed?: string; star: boolean } {
  if (i >= segments.length) return { star: false };
  const want = segments[i];
  return want === null || want === undefined ? { star: true } : { fixed: want, star: false };
}
