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
