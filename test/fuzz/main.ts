import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { packageRoot } from '#core/package-root';
import { misused, toolOptions } from '../support/tool-options.ts';
import { fuzzAnswers } from './answers/index.ts';
import { fuzzHttp } from './http/index.ts';

/**
 * `npm run fuzz -- [NAME...] [--cases N] [--seed S] [--json]`: the parts of policies/ (policies/testing/main.ts); `http`: requests through a
 * real door and through other readers of HTTP; `answers`: answers through our parser and through other readers. Without a name, all of them.
 * `--count` is another word for `--cases`. The same seed gives the same cases. Exits 1 where anything differs, of `http` and `answers` with
 * the smallest case that still does.
 */

const USAGE = `usage: npm run fuzz -- [NAME]... [--cases N] [--seed S] [--json]
       NAME: http, answers, or one of policies: targets, addresses, decide, boundaries, bindings, never, diffs`;
const DEFAULT_CASES = 200_000;

/** What a part found, as far as all have it. */
interface Outcome {
  readonly cases: number;
  readonly findings: readonly {
    readonly reader: string;
    readonly what: string;
    readonly minimal: {
      readonly text: string;
      readonly inside?: boolean;
      readonly method?: string;
    };
  }[];
  readonly seen: ReadonlyMap<string, number>;
}

const PARTS: ReadonlyMap<string, (cases: number, seed: number) => Promise<Outcome>> = new Map([
  ['http', (cases: number, seed: number): Promise<Outcome> => fuzzHttp(cases, seed)],
  ['answers', (cases: number, seed: number): Promise<Outcome> => fuzzAnswers(cases, seed)],
]);

const { positionals, values } = toolOptions(USAGE, {
  allowPositionals: true,
  options: {
    cases: { type: 'string' },
    count: { type: 'string' },
    seed: { type: 'string', default: '1' },
    json: { type: 'boolean', default: false },
  },
});
const given = values.cases ?? values.count;
const others = positionals.filter((name) => !PARTS.has(name));
let failed = false;
if (others.length > 0 || positionals.length === 0) failed ||= fuzzPolicies(others) !== 0;
for (const [name, part] of PARTS)
  if (positionals.length === 0 || positionals.includes(name))
    failed = (await differs(name, part)) || failed;
process.exit(failed ? 1 : 0);

function fuzzPolicies(names: readonly string[]): number | null {
  const main = join(packageRoot, 'policies/testing/main.ts');
  const options = [
    ...(given === undefined ? [] : ['--cases', given]),
    '--seed',
    values.seed,
    ...(values.json ? ['--json'] : []),
  ];
  const argv = ['--conditions=outrider-source', main, ...names, ...options];
  return spawnSync(process.execPath, argv, { stdio: 'inherit' }).status;
}

async function differs(
  name: string,
  part: (cases: number, seed: number) => Promise<Outcome>,
): Promise<boolean> {
  const [asked, seed] = [Number(given ?? DEFAULT_CASES), Number(values.seed)];
  if (!(asked >= 1) || !Number.isInteger(seed))
    misused(USAGE, 'cases is a number from 1 on, and the seed a whole number');
  const { cases, findings, seen } = await part(asked, seed);
  process.stdout.write(`${name}: ${cases} cases, seed ${seed}, ${findings.length} differences\n`);
  for (const finding of findings) process.stdout.write(`  ${textOf(finding)}\n`);
  for (const [outcome, times] of [...seen].toSorted(([, a], [, b]) => b - a))
    process.stdout.write(`  ${String(times).padStart(9)} ${outcome}\n`);
  const figures = { [`${name}_cases`]: cases, [`${name}_differences`]: findings.length };
  if (values.json) process.stdout.write(`${JSON.stringify(figures)}\n`);
  return findings.length > 0;
}

function textOf({ reader, what, minimal }: Outcome['findings'][number]): string {
  const where = minimal.inside ? ' (inside a SOCKS5 connection)' : '';
  const asked = minimal.method === undefined ? '' : ` (to a ${minimal.method})`;
  return `${reader}${where}${asked}: ${what}\n    ${JSON.stringify(minimal.text)}`;
}
