import { parseArgs } from 'node:util';
import type { Findings } from './findings.ts';
import { fuzzAddresses } from './fuzz-addresses.ts';
import { fuzzBindings } from './fuzz-bindings.ts';
import { fuzzBoundaries } from './fuzz-boundaries.ts';
import { fuzzDecide } from './fuzz-decide.ts';
import { fuzzDiffs } from './fuzz-diffs.ts';
import { fuzzNever } from './fuzz-never.ts';
import { fuzzTargets } from './fuzz-targets.ts';

/**
 * `npm run fuzz -- [NAME...] [--cases N] [--seed S] [--json]`: the engine of policies/ against slow readings of the same language
 * that share no code with it. The same seed gives the same cases. Exits 1 where anything differs.
 */

const RUNS: Readonly<Record<string, (cases: number, seed: number) => Findings>> = {
  targets: fuzzTargets,
  addresses: fuzzAddresses,
  decide: fuzzDecide,
  boundaries: fuzzBoundaries,
  bindings: fuzzBindings,
  never: fuzzNever,
  diffs: fuzzDiffs,
};
/** Each of their cases decides some ten thousand requests. */
const WHOLE_WORLDS = ['boundaries', 'bindings', 'never', 'diffs'];
const SHOWN_MAX = 20;

const { positionals, values } = parseArgs({
  allowPositionals: true,
  options: {
    cases: { type: 'string' },
    seed: { type: 'string', default: '1' },
    json: { type: 'boolean', default: false },
  },
});
const names = positionals.length > 0 ? positionals : Object.keys(RUNS);
const given = values.cases === undefined ? undefined : Number(values.cases);
const seed = Number(values.seed);
if (names.some((name) => !RUNS[name]) || !((given ?? 1) >= 1) || !Number.isInteger(seed)) {
  process.stderr.write(
    `usage: npm run fuzz -- [${Object.keys(RUNS).join('|')}]... [--cases N] [--seed S] [--json]\n`,
  );
  process.exitCode = 2;
} else {
  const figures: Record<string, number> = {};
  for (const name of names) {
    const cases = given ?? (WHOLE_WORLDS.includes(name) ? 10_000 : 1_000_000);
    const found = RUNS[name]?.(cases, seed);
    if (!found) continue;
    figures[`${name}_cases`] = found.cases;
    figures[`${name}_differences`] = found.differences.length;
    print(name, found);
    if (found.differences.length > 0) process.exitCode = 1;
  }
  if (values.json) process.stdout.write(`${JSON.stringify(figures)}\n`);
}

function print(name: string, { cases: made, differences, seen }: Findings): void {
  process.stdout.write(`${name}: ${made} cases, seed ${seed}, ${differences.length} differences\n`);
  for (const line of differences.slice(0, SHOWN_MAX)) process.stdout.write(`  ${line}\n`);
  const outcomes = [...seen].toSorted(([, a], [, b]) => b - a);
  for (const [outcome, count] of outcomes)
    process.stdout.write(`  ${String(count).padStart(9)} ${outcome}\n`);
}
