import { misused, toolOptions } from '../test/support/tool-options.ts';
import { keepCoresAwake } from './awake.ts';
import { egressPart } from './egress.ts';
import { execPart } from './exec.ts';
import { gatewayPart } from './gateway.ts';
import type { Extent, Wanted } from './group.ts';
import { policiesPart } from './policies.ts';
import { proxyPart } from './proxy.ts';
import { runnerPart } from './runner.ts';
import { startPart } from './start.ts';

/**
 * `npm run bench -- PART [--json] [--only FIGURE,...] [--sandboxes N] [--asleep]`: measures, prints a table, and with --json one line
 * `{"figure": value, ...}` last. With `--only` what is not named is not measured; `--sandboxes` is how many the figure `lives` of the
 * part `runner` goes through. Idle cores are kept awake (awake.ts) but with `--asleep`; `cores_awake` says whether they were.
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

const USAGE = `usage: npm run bench -- ${Object.keys(PARTS).join('|')} [--json] [--only FIGURE,...] [--sandboxes N] [--asleep]`;

const { positionals, values } = toolOptions(USAGE, {
  allowPositionals: true,
  options: {
    json: { type: 'boolean', default: false },
    only: { type: 'string' },
    sandboxes: { type: 'string' },
    asleep: { type: 'boolean', default: false },
  },
});
const [part = ''] = positionals;
const measure = PARTS[part];
if (!measure || positionals.length > 1) misused(USAGE, 'name one part');
const sandboxes = values.sandboxes === undefined ? undefined : Number(values.sandboxes);
if (sandboxes !== undefined && !(Number.isInteger(sandboxes) && sandboxes > 0))
  misused(USAGE, 'the number of sandboxes is 1 or more');
const only = values.only?.split(',');
const wanted: Wanted = (figure) => only === undefined || only.includes(figure);
const areAwake = !values.asleep && keepCoresAwake();
if (!areAwake && !values.asleep)
  process.stderr.write('cores cannot be kept awake here: waking them is in every latency\n');
const measured = await measure(wanted, { sandboxes });
if (only && !only.some((name) => name in measured) && process.exitCode === undefined)
  misused(USAGE, `${part} has no figure ${only.join(', ')}`);
const figures = { ...measured, cores_awake: Number(areAwake) };
const width = Math.max(...Object.keys(figures).map((name) => name.length));
for (const [name, value] of Object.entries(figures))
  process.stdout.write(`${name.padEnd(width)}  ${round(value)}\n`);
if (values.json)
  process.stdout.write(
    `${JSON.stringify(Object.fromEntries(Object.entries(figures).map(([name, value]) => [name, round(value)])))}\n`,
  );

function round(value: number): number {
  return Number(value.toPrecision(3));
}
