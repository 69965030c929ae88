import { parseArgs } from 'node:util';
import { campaign } from './campaign.ts';

/** `npm run chaos -- runner [--count N] [--backend NAME] [--seed N]`: random kills at random moments; non-zero where anything is left. */

const USAGE = `usage: npm run chaos -- runner [--count N] [--backend bubblewrap|docker|gvisor] [--seed N]

Without --backend: every backend; without --count: 10 000 kills on bubblewrap, 300 on docker and on gvisor.
A seed is printed; the same seed makes the same kills.
`;
const FULL: Readonly<Record<string, number>> = { bubblewrap: 10_000, docker: 300, gvisor: 300 };

const asked = parsed();
if (!asked) {
  process.stderr.write(USAGE);
  process.exitCode = 2;
} else {
  let problems = 0;
  for (const backend of asked.backends)
    problems += await run(backend, asked.count ?? FULL[backend] ?? 0, asked.seed);
  process.exitCode = problems === 0 ? 0 : 1;
}

async function run(backend: string, count: number, seed: number): Promise<number> {
  process.stdout.write(`${backend}: ${count} kills, seed ${seed}\n`);
  const report = await campaign({
    seed,
    count,
    backend,
    built: true,
    onBatch: (done, problems) =>
      void process.stderr.write(`${backend}: ${done} of ${count}, ${problems} problems\n`),
  });
  for (const [kind, ends] of Object.entries(report.ends)) {
    const how = Object.entries(ends).map(([end, times]) => `${end} ${times}`);
    process.stdout.write(`  ${kind.padEnd(10)}  ${how.join(', ')}\n`);
  }
  for (const problem of report.problems) process.stdout.write(`  PROBLEM ${problem}\n`);
  const rate = (count / report.seconds).toFixed(1);
  process.stdout.write(
    `${backend}: ${count} kills in ${report.seconds.toFixed(0)} s (${rate}/s), ${report.problems.length} problems\n`,
  );
  return report.problems.length;
}

function parsed(): { backends: string[]; count: number | undefined; seed: number } | undefined {
  try {
    const { positionals, values } = parseArgs({
      allowPositionals: true,
      options: {
        count: { type: 'string' },
        backend: { type: 'string' },
        seed: { type: 'string', default: String(Date.now() % 2 ** 31) },
      },
    });
    const backends = values.backend === undefined ? Object.keys(FULL) : [values.backend];
    const numbers = [values.count ?? '1', values.seed].map(Number);
    const sound =
      positionals.join() === 'runner' &&
      backends.every((name) => Object.hasOwn(FULL, name)) &&
      numbers.every((number) => Number.isInteger(number) && number > 0);
    if (!sound) return undefined;
    return {
      backends,
      count: values.count === undefined ? undefined : Number(values.count),
      seed: Number(values.seed),
    };
  } catch {
    return undefined;
  }
}
