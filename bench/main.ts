import { parseArgs } from 'node:util';
import { egressPart } from './egress.ts';
import { execPart } from './exec.ts';
import { gatewayPart } from './gateway.ts';
import type { Extent, Wanted } from './group.ts';
import { policiesPart } from './policies.ts';
import { proxyPart } from './proxy.ts';
import { runnerPart } from './runner.ts';
import { startPart } from './start.ts';

/**
 * `npm run bench -- PART [--json] [--only FIGURE,...] [--sandboxes N]`: measures, prints a table, and with --json one line
 * `{"figure": value, ...}` last. The other two are for the part `runner`: with `--only` what is not named is not measured;
 * `--sandboxes` is how many the figure `lives` goes through.
 */

type Measure = (wanted: Wanted, extent: Extent) => Promise<Record<string, number>>;

const PARTS: Readonly<Record<string, Measure>> = {
  start: startPart,
  exec: execPart,
  runner: runnerPart,
  egress: egressPart,
  policies: policiesPart,
  gateway: gatewayPart,
  proxy: proxyPart,
};

const { positionals, values } = parseArgs({
  allowPositionals: true,
  options: {
    json: { type: 'boolean', default: false },
    only: { type: 'string' },
    sandboxes: { type: 'string' },
  },
});
const measure = PARTS[positionals[0] ?? ''];
const sandboxes = values.sandboxes === undefined ? undefined : Number(values.sandboxes);
if (!measure || (sandboxes !== undefined && !(Number.isInteger(sandboxes) && sandboxes > 0))) {
  process.stderr.write(
    `usage: npm run bench -- ${Object.keys(PARTS).join('|')} [--json] [--only FIGURE,...] [--sandboxes N]\n`,
  );
  process.exitCode = 2;
} else {
  const only = values.only?.split(',');
  const wanted: Wanted = (figure) => only === undefined || only.includes(figure);
  const figures = await measure(wanted, { sandboxes });
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
