import { parsePath } from './path.ts';

/**
 * `/repos/acme/*` or `/repos/**`: `*` stands for exactly one segment that is not empty, `**` at the end for any number of
 * segments, also for none. Everything else is compared letter by letter, case included; an encoded delimiter is the plain one (`Path`).
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
  // An encoded star is a letter.
  const written = text.slice(1).split('/');
  const open = written.at(-1) === '**';
  const fixed = open ? written.slice(0, -1) : written;
  if (fixed.includes('**')) return '"**" may only end a path';
  if (fixed.some((segment) => segment.includes('*') && segment !== '*')) {
    return '"*" stands for a whole segment';
  }
  const segments = fixed.map((segment, at) => (segment === '*' ? null : (path.segments[at] ?? '')));
  return { text, segments, open };
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
