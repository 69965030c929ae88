import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { packageRoot } from '#core/package-root';
import { type Finding, fuzzHttp } from './http/index.ts';

/**
 * `npm run fuzz -- [NAME...] [--cases N] [--seed S] [--json]`: the parts of policies/ (policies/testing/main.ts), and `http`: requests
 * through a real door and through other readers of HTTP. Without a name, all of them. `--count` is another word for `--cases`. The same
 * seed gives the same cases. Exits 1 where anything differs, of `http` with the smallest case that still does.
 */

const DEFAULT_CASES = 200_000;

const { positionals, values } = parseArgs({
  allowPositionals: true,
  options: {
    cases: { type: 'string' },
    count: { type: 'string' },
    seed: { type: 'string', default: '1' },
    json: { type: 'boolean', default: false },
  },
});
const given = values.cases ?? values.count;
const others = positionals.filter((name) => name !== 'http');
let failed = false;
if (others.length > 0 || positionals.length === 0) failed ||= fuzzPolicies(others) !== 0;
if (others.length < positionals.length || positionals.length === 0) failed ||= await fuzzRequests();
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

async function fuzzRequests(): Promise<boolean> {
  const [asked, seed] = [Number(given ?? DEFAULT_CASES), Number(values.seed)];
  if (!(asked >= 1) || !Number.isInteger(seed)) {
    process.stderr.write('usage: npm run fuzz -- http [--cases N] [--seed S] [--json]\n');
    process.exit(2);
  }
  const { cases, findings, seen } = await fuzzHttp(asked, seed);
  process.stdout.write(`http: ${cases} cases, seed ${seed}, ${findings.length} differences\n`);
  for (const finding of findings) process.stdout.write(`  ${textOf(finding)}\n`);
  for (const [outcome, times] of [...seen].toSorted(([, a], [, b]) => b - a))
    process.stdout.write(`  ${String(times).padStart(9)} ${outcome}\n`);
  const figures = { http_cases: cases, http_differences: findings.length };
  if (values.json) process.stdout.write(`${JSON.stringify(figures)}\n`);
  return findings.length > 0;
}

function textOf({ reader, what, minimal }: Finding): string {
  const where = minimal.inside ? ' (inside a SOCKS5 connection)' : '';
  return `${reader}${where}: ${what}\n    ${JSON.stringify(minimal.text)}`;
}
