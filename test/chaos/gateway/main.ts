import { misused, toolOptions } from '../../support/tool-options.ts';
import { TRIALS } from './trials.ts';

const USAGE = `usage: npm run chaos -- gateway [--sessions N] [--only TEXT]
       N: 20 or more. TEXT: what stands in the names of the trials:
${Object.keys(TRIALS)
  .map((name) => `         ${name}`)
  .join('\n')}`;

/**
 * `npm run chaos -- gateway [--sessions N] [--only TEXT]`: kills, restarts and stops under load, or those with TEXT in their names; non-zero
 * where more was lost than was in flight on what died.
 */
export async function gatewayChaos(argv: readonly string[]): Promise<number> {
  const { values } = toolOptions(USAGE, {
    args: [...argv],
    options: {
      sessions: { type: 'string', default: '200' },
      only: { type: 'string', default: '' },
    },
  });
  const sessions = Number(values.sessions);
  const trials = Object.entries(TRIALS).filter(([name]) => name.includes(values.only));
  if (!Number.isInteger(sessions) || sessions < 20) misused(USAGE, 'too few sessions');
  if (trials.length === 0) misused(USAGE, `no trial has '${values.only}' in its name`);
  let problems = 0;
  for (const [name, trial] of trials) {
    const verdict = await trial({ sessions, built: true });
    const { stallP99Ms } = verdict;
    const found = [...verdict.problems, ...tooLong(stallP99Ms)];
    problems += found.length;
    process.stdout.write(
      `${name}: ${sessions} sessions, ${verdict.calls} calls, ${verdict.inFlight} lost in flight, ${found.length} problems${stallP99Ms === undefined ? '' : `, stall p99 ${stallP99Ms.toFixed(0)} ms`}\n`,
    );
    for (const problem of new Set(found)) process.stdout.write(`  PROBLEM ${problem}\n`);
  }
  return problems === 0 ? 0 : 1;
}

/** Of a session whose server was killed, from the call until its answer from another server. */
const STALL_MAX_MS = 500;

function tooLong(stallMs: number | undefined): readonly string[] {
  // Not a number: nothing was measured.
  return stallMs === undefined || stallMs <= STALL_MAX_MS
    ? []
    : [`stall p99 ${stallMs.toFixed(0)} ms, and not ${STALL_MAX_MS} ms at most`];
}
