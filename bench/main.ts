import { execPart } from './exec.ts';
import { startPart } from './start.ts';

/** `npm run bench -- PART [--json]`: measures, prints a table, and with --json one line `{"figure": value, ...}` last. */

const PARTS: Readonly<Record<string, () => Promise<Record<string, number>>>> = {
  start: startPart,
  exec: execPart,
};

const [part = '', ...options] = process.argv.slice(2);
const measure = PARTS[part];
if (!measure) {
  process.stderr.write(`usage: npm run bench -- ${Object.keys(PARTS).join('|')} [--json]\n`);
  process.exitCode = 2;
} else {
  const figures = await measure();
  const width = Math.max(...Object.keys(figures).map((name) => name.length));
  for (const [name, value] of Object.entries(figures))
    process.stdout.write(`${name.padEnd(width)}  ${round(value)}\n`);
  if (options.includes('--json'))
    process.stdout.write(
      `${JSON.stringify(Object.fromEntries(Object.entries(figures).map(([name, value]) => [name, round(value)])))}\n`,
    );
}

function round(value: number): number {
  return Number(value.toPrecision(3));
}
