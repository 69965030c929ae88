/**
 * Patterns for the values of query parameters: a subset of regular expressions that is always anchored and matches in a time
 * proportional to length of value times length of pattern. Letters, digits and `_ - ~ , : / @ =` stand for themselves, `\.` and
 * the like for one character, `[a-z0-9_]` for one of a set; each may be repeated by `?`, `*`, `+`, `{n}` or `{n,m}`;
 * `|` separates alternatives. There are no groups, no `.`, no anchors and no look-around.
 */
export interface QueryPattern {
  readonly text: string;
  readonly alternatives: readonly (readonly Atom[])[];
}

interface Atom {
  readonly accepts: ReadonlySet<string>;
  readonly min: number;
  readonly max: number;
}

/** A longer value matches no pattern. */
export const VALUE_MAX = 1024;

const ATOM =
  /(?:([A-Za-z0-9_\-~,:/@=])|\\([^A-Za-z0-9])|\[((?:[A-Za-z0-9_~,:/@=.+ -]|\\[\]\\^-])+)\])(?:([?*+])|\{(\d{1,3})(?:,(\d{1,4})?)?\})?/y;

/** Text: what is wrong with the pattern. */
export function parseQueryPattern(text: string): QueryPattern | string {
  const alternatives: Atom[][] = [];
  for (const part of text.split('|')) {
    const atoms = parseAtoms(part);
    if (typeof atoms === 'string') return atoms;
    alternatives.push(atoms);
  }
  return { text, alternatives };
}

export function matchesQueryValue({ alternatives }: QueryPattern, value: string): boolean {
  return value.length <= VALUE_MAX && alternatives.some((atoms) => matchesAtoms(atoms, value));
}

function parseAtoms(text: string): Atom[] | string {
  const atoms: Atom[] = [];
  ATOM.lastIndex = 0;
  while (ATOM.lastIndex < text.length) {
    const at = ATOM.lastIndex;
    const match = ATOM.exec(text);
    if (!match) {
      return `"${text.slice(at)}" is not understood: letters, digits, \\. , [a-z] and ? * + {n,m} are; patterns are always anchored`;
    }
    const [, plain, escaped, set, sign, min, max] = match;
    const accepts = set === undefined ? new Set([plain ?? escaped ?? '']) : setOf(set);
    if (!accepts) return `"[${set}]" has a range that runs backwards`;
    const bounds = repeat(sign, min, max, /\{\d+,/.test(match[0]));
    if (bounds.min > bounds.max) return `"${match[0]}" repeats at least more often than at most`;
    atoms.push({ accepts, ...bounds });
  }
  return atoms;
}

function repeat(
  sign: string | undefined,
  min: string | undefined,
  max: string | undefined,
  hasComma: boolean,
): { min: number; max: number } {
  if (sign === '?') return { min: 0, max: 1 };
  if (sign !== undefined) return { min: sign === '+' ? 1 : 0, max: VALUE_MAX };
  if (min === undefined) return { min: 1, max: 1 };
  return {
    min: Number(min),
    max: max === undefined ? (hasComma ? VALUE_MAX : Number(min)) : Number(max),
  };
}

function setOf(text: string): Set<string> | undefined {
  const accepts = new Set<string>();
  const letters = [...text.matchAll(/\\(.)|(.)/g)].map((m) => ({
    char: m[1] ?? m[2] ?? '',
    plain: m[1] === undefined,
  }));
  for (let i = 0; i < letters.length; i++) {
    const from = letters[i]?.char ?? '';
    const to = letters[i + 2];
    if (letters[i + 1]?.char === '-' && letters[i + 1]?.plain && to) {
      if (from > to.char) return undefined;
      for (let code = from.charCodeAt(0); code <= to.char.charCodeAt(0); code++)
        accepts.add(String.fromCharCode(code));
      i += 2;
    } else accepts.add(from);
  }
  return accepts;
}

/** Every place in `value` that the atoms so far can reach; sweeps once over the value for each atom. */
function matchesAtoms(atoms: readonly Atom[], value: string): boolean {
  let reached = new Uint8Array(value.length + 1);
  reached[0] = 1;
  for (const { accepts, min, max } of atoms) {
    const next = new Uint8Array(value.length + 1);
    let covered = -1;
    for (let start = 0, run = 0; start <= value.length; start++) {
      if (run > 0) run--;
      if (!reached[start]) continue;
      while (start + run < value.length && accepts.has(value[start + run] ?? '')) run++;
      const last = start + Math.min(run, max);
      // Ranges begin ever later, so what an earlier one covered need not be written again.
      for (let end = Math.max(start + min, covered + 1); end <= last; end++) next[end] = 1;
      if (last >= start + min) covered = Math.max(covered, last);
    }
    reached = next;
  }
  return reached[value.length] === 1;
}
