import { parseArgs } from 'node:util';
import { execPart } from './exec.ts';
import { runnerPart } from './runner.ts';
import { startPart } from './start.ts';

/**
 * `npm run bench -- PART [--json] [--only FIGURE,...]`: measures, prints a table, and with --json one line `{"figure": value, ...}`
 * last. `--only` is for the part `runner`: what is not named is not measured.
 */

type Measure = (wanted: (figure: string) => boolean) => Promise<Record<string, number>>;

const PARTS: Readonly<Record<string, Measure>> = {
  start: startPart,
  exec: execPart,
  runner: runnerPart,
};

const { positionals, values } = parseArgs({
  allowPositionals: true,
  options: { json: { type: 'boolean', default: false }, only: { type: 'string' } },
});
const measure = PARTS[positionals[0] ?? ''];
if (!measure) {
  process.stderr.write(
    `usage: npm run bench -- ${Object.keys(PARTS).join('|')} [--json] [--only FIGURE,...]\n`,
  );
  process.exitCode = 2;
} else {
  const only = values.only?.split(',');
  const figures = await measure((figure) => only === undefined || only.includes(figure));
  const width = Math.max(...Object.keys(figures).map((name) => name.length));
  for (const [name, value] of Object.entries(figures))
    process.stdout.write(`${name.padEnd(width)}  ${round(value)}\n`);
  if (values.json)
    process.stdout.write(
      `${JSON.stringify(Object.fromEntries(Object.entries(figures).map(([name, value]) => [name, round(value)])))}\n`,
    );
}

function round(value: number): number {
  return Number(value.toPrecision(3));
}
