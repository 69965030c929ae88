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
    problems += verdict.problems.length;
    process.stdout.write(
      `${name}: ${sessions} sessions, ${verdict.calls} calls, ${verdict.inFlight} lost in flight, ${verdict.problems.length} problems${stalled(verdict.stallP99Ms)}\n`,
    );
    for (const problem of new Set(verdict.problems)) process.stdout.write(`  PROBLEM ${problem}\n`);
  }
  return problems === 0 ? 0 : 1;
}

/** The aim is 500 ms, of which the call itself is 100. */
function stalled(ms: number | undefined): string {
  return ms === undefined ? '' : `, stall p99 ${ms.toFixed(0)} ms`;
}
