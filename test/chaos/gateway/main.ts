import { parseArgs } from 'node:util';
import { TRIALS } from './trials.ts';

/** `npm run chaos -- gateway [--sessions N]`: kills, restarts and stops under load; non-zero where more was lost than was in flight on what died. */
export async function gatewayChaos(argv: readonly string[]): Promise<number> {
  const { values } = parseArgs({
    args: [...argv],
    options: { sessions: { type: 'string', default: '200' } },
  });
  const sessions = Number(values.sessions);
  if (!Number.isInteger(sessions) || sessions < 20) {
    process.stderr.write('usage: npm run chaos -- gateway [--sessions N], with 20 or more\n');
    return 2;
  }
  let problems = 0;
  for (const [name, trial] of Object.entries(TRIALS)) {
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
