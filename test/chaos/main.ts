import { misused, toolOptions } from '../support/tool-options.ts';
import { campaign } from './campaign.ts';
import { gatewayChaos } from './gateway/main.ts';

/**
 * `npm run chaos -- runner [--count N] [--backend NAME] [--sharing MODE] [--seed N]`: random kills at random moments; non-zero where anything is left.
 * `npm run chaos -- gateway [--sessions N] [--only TEXT]`: what dies under load takes with it what was in flight on it, and no more.
 */

const USAGE = `usage: npm run chaos -- runner [--count N] [--backend bubblewrap|docker|gvisor] [--sharing host|none] [--seed N]
       npm run chaos -- gateway [--sessions N] [--only TEXT]

The runner, all of it: 10 000 kills on bubblewrap where one sidecar serves all sandboxes (--sharing host), 1 000 where each has its own (none),
300 on docker and on gvisor. --backend and --sharing choose among these four, --count is for each that is chosen.
A seed is printed; the same seed makes the same kills.`;

interface Share {
  readonly backend: string;
  readonly sharing: 'host' | 'none';
  readonly count: number;
}
const FULL: readonly Share[] = [
  { backend: 'bubblewrap', sharing: 'host', count: 10_000 },
  { backend: 'bubblewrap', sharing: 'none', count: 1_000 },
  { backend: 'docker', sharing: 'host', count: 300 },
  { backend: 'gvisor', sharing: 'host', count: 300 },
];

if (process.argv[2] === 'gateway') process.exitCode = await gatewayChaos(process.argv.slice(3));
else {
  const { shares, seed } = asked();
  let problems = 0;
  for (const share of shares) problems += await run(share, seed);
  process.exitCode = problems === 0 ? 0 : 1;
}

async function run({ backend, sharing, count }: Share, seed: number): Promise<number> {
  const name = `${backend}, sharing ${sharing}`;
  process.stdout.write(`${name}: ${count} kills, seed ${seed}\n`);
  const report = await campaign({
    seed,
    count,
    backend,
    sharing,
    built: true,
    onBatch: (done, problems) =>
      void process.stderr.write(`${name}: ${done} of ${count}, ${problems} problems\n`),
  });
  for (const [kind, ends] of Object.entries(report.ends)) {
    const how = Object.entries(ends).map(([end, times]) => `${end} ${times}`);
    process.stdout.write(`  ${kind.padEnd(10)}  ${how.join(', ')}\n`);
  }
  for (const problem of report.problems) process.stdout.write(`  PROBLEM ${problem}\n`);
  const rate = (count / report.seconds).toFixed(1);
  process.stdout.write(
    `${name}: ${count} kills in ${report.seconds.toFixed(0)} s (${rate}/s), ${report.problems.length} problems\n`,
  );
  return report.problems.length;
}

function asked(): { shares: readonly Share[]; seed: number } {
  const { positionals, values } = toolOptions(USAGE, {
    allowPositionals: true,
    options: {
      count: { type: 'string' },
      backend: { type: 'string' },
      sharing: { type: 'string' },
      seed: { type: 'string', default: String(Date.now() % 2 ** 31) },
    },
  });
  const { backend, sharing, count } = values;
  const shares = FULL.filter(
    (share) =>
      (backend ?? share.backend) === share.backend && (sharing ?? share.sharing) === share.sharing,
  );
  if (positionals.join() !== 'runner') misused(USAGE, 'name runner or gateway');
  if (shares.length === 0) misused(USAGE, 'there is no such backend with such a sharing');
  const numbers = [count ?? '1', values.seed].map(Number);
  if (!numbers.every((number) => Number.isInteger(number) && number > 0))
    misused(USAGE, 'count and seed are whole numbers from 1 on');
  return {
    shares: shares.map((share) => ({ ...share, count: Number(count ?? share.count) })),
    seed: Number(values.seed),
  };
}
