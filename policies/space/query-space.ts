import { OutriderError } from '#core/errors';
import { matchesQueryValue, type QueryPattern, VALUE_MAX } from '../query-pattern.ts';

/** Which queries: those whose every parameter is one of `only` and matches all patterns that `wanted` has for its name. */
export interface QueryCondition {
  readonly wanted: ReadonlyMap<string, readonly QueryPattern[]>;
  /** null: also parameters that are not named. */
  readonly only: ReadonlySet<string> | null;
}

/** One parameter, decoded. */
export type Parameter = readonly [name: string, value: string];

/** The queries that are in both. */
export function commonQuery(
  a: QueryCondition | null,
  b: QueryCondition | null,
): QueryCondition | null {
  if (a === null || b === null) return a ?? b;
  const wanted = new Map(a.wanted);
  for (const [name, patterns] of b.wanted) {
    wanted.set(name, [...(wanted.get(name) ?? []), ...patterns]);
  }
  const only = a.only && b.only ? common(a.only, b.only) : (a.only ?? b.only);
  return { wanted, only };
}

/** What is in both sets. */
export function common<T>(a: ReadonlySet<T>, b: ReadonlySet<T>): ReadonlySet<T> {
  return new Set([...a].filter((item) => b.has(item)));
}

/**
 * A parameter that `within` allows and `beyond` does not: a query stays in the one and leaves the other by having it. Since each
 * parameter counts for itself, parameters against several conditions may stand side by side.
 * @throws {OutriderError} POLICY_INVALID where patterns are too complicated to compare
 */
export function parameterBeyond(
  within: QueryCondition | null,
  beyond: QueryCondition,
): Parameter | undefined {
  const mayHave = (name: string) => !within?.only || within.only.has(name);
  for (const [name, patterns] of beyond.wanted) {
    if (!mayHave(name)) continue;
    for (const pattern of patterns) {
      const value = valueBeyond(within?.wanted.get(name) ?? [], pattern);
      if (value !== undefined) return [name, value];
    }
  }
  const { only } = beyond;
  if (only === null) return undefined;
  if (!within?.only) return [unnamed([...only, ...(within?.wanted.keys() ?? [])]), 'x'];
  for (const name of within.only) {
    const value = only.has(name) ? undefined : valueBeyond(within.wanted.get(name) ?? [], null);
    if (value !== undefined) return [name, value];
  }
  return undefined;
}

/** The shortest value that matches every pattern of `within` and not `beyond` (null: which nothing matches). */
function valueBeyond(
  within: readonly QueryPattern[],
  beyond: QueryPattern | null,
): string | undefined {
  if (beyond && within.some(({ text }) => text === beyond.text)) return undefined;
  // No pattern has every character, so something short is always beyond it.
  if (within.length === 0) return shortOutside(beyond);
  const key = JSON.stringify([beyond?.text, ...within.map(({ text }) => text)]);
  let found = FOUND.get(key);
  if (!found) {
    // The same few patterns stand in many rules.
    if (FOUND.size >= FOUND_MAX) FOUND.clear();
    FOUND.set(key, (found = { value: shortestBeyond(within, beyond) }));
  }
  return found.value;
}

const FOUND = new Map<string, { readonly value: string | undefined }>();
const FOUND_MAX = 1_000;

/** Breadth first over what the patterns can still become; characters that all of them treat alike are one. */
function shortestBeyond(
  within: readonly QueryPattern[],
  beyond: QueryPattern | null,
): string | undefined {
  const inside = within.map(automaton);
  const outside = beyond ? automaton(beyond) : null;
  const letters = representatives([...inside, ...(outside ? [outside] : [])]);
  const key = ({ sets, out }: Reached) => [...sets, out].map((set) => set.join()).join('|');
  let level: Reached[] = [
    { text: '', sets: inside.map(start), out: outside ? start(outside) : [] },
  ];
  const seen = new Set(level.map(key));
  for (let length = 0; length <= VALUE_MAX; length++) {
    const found = level.find(
      ({ sets, out }) =>
        sets.every((set, i) => accepts(inside[i], set)) && !(outside && accepts(outside, out)),
    );
    if (found) return found.text;
    const next: Reached[] = [];
    for (const { text, sets, out } of level) {
      for (const letter of letters) {
        const moved = sets.map((set, i) => move(inside[i], set, letter));
        if (moved.some((set) => set.length === 0)) continue;
        const reached = {
          text: text + letter,
          sets: moved,
          out: outside ? move(outside, out, letter) : [],
        };
        const id = key(reached);
        if (seen.has(id)) continue;
        seen.add(id);
        next.push(reached);
      }
    }
    if (seen.size > STATES_MAX) throw tooComplicated(within, beyond);
    level = next;
  }
  return undefined;
}

/** What has been read, and the cells that each pattern may be before. */
interface Reached {
  readonly text: string;
  readonly sets: readonly (readonly number[])[];
  readonly out: readonly number[];
}

/** Comparing patterns is exponential at worst (PSPACE): beyond so many states nobody waits for the answer, and nobody guesses it. */
const STATES_MAX = 20_000;

function tooComplicated(within: readonly QueryPattern[], beyond: QueryPattern | null): Error {
  const texts = [...within, ...(beyond ? [beyond] : [])].map(({ text }) => `"${text}"`);
  return new OutriderError(
    'POLICY_INVALID',
    `the query patterns ${texts.join(' and ')} are too complicated to compare: write them with fewer alternatives and repetitions`,
  );
}

/** One character of a pattern, with repetitions written out; `end` is behind the last of an alternative. */
type Cell =
  | { readonly accepts: ReadonlySet<string>; readonly skip: boolean; readonly loop: boolean }
  | 'end';

type Automaton = readonly Cell[];

function automaton({ alternatives }: QueryPattern): Automaton {
  return alternatives.flatMap((atoms) => [
    ...atoms.flatMap(({ accepts: letters, min, max }): Cell[] => {
      const cell = (skip: boolean, loop: boolean) => ({ accepts: letters, skip, loop });
      const needed = Array.from({ length: min }, () => cell(false, false));
      // No value is long enough to tell such a bound from none.
      if (max >= VALUE_MAX) return [...needed, cell(true, true)];
      return [...needed, ...Array.from({ length: max - min }, () => cell(true, false))];
    }),
    'end' as const,
  ]);
}

function start(cells: Automaton): number[] {
  const first = [0, ...cells.flatMap((cell, i) => (cell === 'end' ? [i + 1] : []))];
  return closure(cells, first.slice(0, -1));
}

/** With what may be left out, ascending. */
function closure(cells: Automaton, from: readonly number[]): number[] {
  const reached = new Set<number>();
  for (const index of from) {
    for (let i = index; !reached.has(i); i++) {
      reached.add(i);
      const cell = cells[i];
      if (cell === undefined || cell === 'end' || !cell.skip) break;
    }
  }
  return [...reached].toSorted((a, b) => a - b);
}

function move(cells: Automaton | undefined, set: readonly number[], letter: string): number[] {
  const next: number[] = [];
  for (const index of set) {
    const cell = cells?.[index];
    if (cell === undefined || cell === 'end' || !cell.accepts.has(letter)) continue;
    next.push(cell.loop ? index : index + 1);
  }
  return closure(cells ?? [], next);
}

function accepts(cells: Automaton | undefined, set: readonly number[]): boolean {
  return set.some((index) => cells?.[index] === 'end');
}

/** One character for each way in which the patterns tell characters apart. */
function representatives(automata: readonly Automaton[]): string[] {
  const sets = new Set(
    automata.flatMap((cells) => cells.flatMap((cell) => (cell === 'end' ? [] : [cell.accepts]))),
  );
  const classes = new Map<string, string>();
  for (const letter of new Set([...sets].flatMap((set) => [...set]))) {
    // No query has these in a value.
    if (/[\p{Cc}\p{Cs}]/u.test(letter)) continue;
    const signature = [...sets].map((set) => (set.has(letter) ? '1' : '0')).join('');
    if (!classes.has(signature)) classes.set(signature, letter);
  }
  return [...classes.values()];
}

function shortOutside(beyond: QueryPattern | null): string {
  const plain = ['x', 'X', '0', '-', '_', '!', '*'];
  const found = plain.find((letter) => !beyond || !matchesQueryValue(beyond, letter));
  if (found !== undefined) return found;
  // Patterns name characters one by one, and there are more than a pattern has room for.
  for (let code = 0xc0; ; code++) {
    const letter = String.fromCharCode(code);
    if (!beyond || !matchesQueryValue(beyond, letter)) return letter;
  }
}

function unnamed(taken: readonly string[]): string {
  for (let i = 0; ; i++) {
    const name = i === 0 ? 'any' : `any${i}`;
    if (!taken.includes(name)) return name;
  }
}
