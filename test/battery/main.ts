import { join } from 'node:path';
import { misused, toolOptions } from '../support/tool-options.ts';
import type { Result } from './battery.ts';
import { readCases } from './case.ts';
import { runAll } from './lanes.ts';

/** `npm run battery [-- --cases FILE] [--only ID,..] [--json]`: bad inputs against the processes as shipped; non-zero where one got through. */

const USAGE = 'usage: npm run battery [-- --cases FILE] [--only ID,..] [--json]';

const { values } = toolOptions(USAGE, {
  options: {
    cases: { type: 'string', default: join(import.meta.dirname, 'cases.json') },
    only: { type: 'string' },
    json: { type: 'boolean', default: false },
  },
});
const only = values.only?.split(',');
const given = readCases(values.cases);
const unknown = only?.filter((wanted) => !given.some(({ id }) => id === wanted)) ?? [];
if (unknown.length > 0) misused(USAGE, `there is no case ${unknown.join(', ')}`);
const cases = given.filter(({ id }) => !only || only.includes(id));
const started = performance.now();
const results = await runAll(cases, (result) => {
  if (result.state === 'failed') process.stderr.write(`FAILED ${text(result)}`);
});
if (values.json) process.stdout.write(`${JSON.stringify(results)}\n`);
report();

function report(): void {
  const of = (state: Result['state']) => results.filter((one) => one.state === state);
  for (const one of of('failed')) process.stdout.write(`FAILED ${text(one)}`);
  const ways = results.reduce((sum, { modes }) => sum + modes.length, 0);
  const seconds = Math.round((performance.now() - started) / 1_000);
  process.stdout.write(`${results.length} cases sent ${ways} ways in ${seconds} s\n`);
  process.stdout.write(`${of('passed').length} passed, ${of('failed').length} failed\n`);
  process.exitCode = of('failed').length === 0 ? 0 : 1;
}

function text({ id, category, description, problems }: Result): string {
  return `${id} ${category}: ${description}\n${problems.map((problem) => `    ${problem}\n`).join('')}`;
}
