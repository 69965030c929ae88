import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { formatAddress } from '#core/address';
import { KilledBy, RunResponse } from '#proto';
import { command, type Fleet, startFleet } from '../../support/fleet.ts';
import { playRunner } from '../../support/plays-runner.ts';
import { quantile } from '../../support/quantile.ts';
import { untilReady } from '../../support/readiness.ts';
import type { Replica } from '../../support/replica.ts';
import { countOn } from './count.ts';
import { Load, type Work } from './load.ts';
import { backendUpAt } from './metrics.ts';
import type { Session } from './session.ts';

/** What one trial came to. */
export interface Verdict {
  readonly calls: number;
  /** Failed, but in flight on what was killed: that much is allowed. */
  readonly inFlight: number;
  /** Of the sessions at the server that was killed, the 99th percentile of how long the longest call then took, in milliseconds; where that counts. */
  readonly stallP99Ms?: number;
  /** Everything else that should not have been. */
  readonly problems: readonly string[];
}

export interface TrialOptions {
  readonly sessions: number;
  /** Runs dist/ instead of the sources. */
  readonly built: boolean;
}

/** Long enough to be in the middle of, shorter than any drain. */
const CALL_MS = 100;
const WARM_MS = 2_000;
const AFTER_MS = 3_000;
/** A session that has no call answered in this time is dead. */
const LIVES_WITHIN_MS = 20_000;
const COUNTED_SESSIONS = 10;
const COUNT_TO = 60;
const COUNT_EVERY_MS = 50;
/** The balancer looks every 200 ms, on a machine that may have better things to do. */
const NOTICE = ['--drain-notice', '2s'];

const FOREIGN: Work = { tool: 'test_tool_with_progress', given: {} };
const OURS: Work = { tool: 'execute_python', given: { code: 'print(1)' } };

/** What goes wrong, and what must come of it; each in a fleet of its own. */
export const TRIALS: Readonly<Record<string, (options: TrialOptions) => Promise<Verdict>>> = {
  'kill -9 of one of two gateways': killGateway,
  'kill -9 of one of three servers of ours': killServer,
  'kill -9 of one of three servers of others, with recovery': killForeign,
  'rolling restart of gateways and servers': rollingRestart,
  'SIGSTOP of a server': stopServer,
};

/** Sessions live on at the other gateway, and their event streams go on there where they broke off. */
async function killGateway({ sessions, built }: TrialOptions): Promise<Verdict> {
  const fleet = await startFleet({ gateways: 2, backends: 2, built });
  return underLoad(fleet, FOREIGN, sessions, async (load) => {
    const counted = load.sessions
      .slice(0, COUNTED_SESSIONS)
      .map((session) => countOn(session, COUNT_TO, COUNT_EVERY_MS));
    await sleep(WARM_MS);
    const window = await killed(fleet.gateways[0]);
    const wrong = await Promise.all(counted);
    await sleep(AFTER_MS);
    return {
      window,
      problems: wrong.flatMap((problem) =>
        problem === undefined ? [] : [`an event stream: ${problem}`],
      ),
    };
  });
}

/** What a server kept in memory is begun again at another one; calls of the tool that the operator calls safe are sent there, too. */
async function killForeign({ sessions, built }: TrialOptions): Promise<Verdict> {
  const fleet = await startFleet({
    gateways: 2,
    backends: 3,
    built,
    argv: ({ directory }) => [
      '--recovery',
      '--recovery-directory',
      join(directory, 'moved'),
      '--safe-tools',
      FOREIGN.tool,
    ],
  });
  return underLoad(fleet, FOREIGN, sessions, async (load) => {
    const [victim] = fleet.backends;
    // Every session is asked at once: what waits behind that is no stall of the kill.
    const stalled = await sessionsAt(victim?.pid, load);
    await sleep(WARM_MS);
    const window = await killed(victim);
    await sleep(AFTER_MS);
    return {
      window,
      problems: stalled.size > 0 ? [] : ['the server that was killed had no session'],
      stalled,
    };
  });
}

/** Sessions that are in the memory of one process. */
async function sessionsAt(pid: number | undefined, { sessions }: Load): Promise<Set<Session>> {
  const pids = await Promise.all(sessions.map((session) => session.replica()));
  return new Set(sessions.filter((_, index) => pids[index] === pid));
}

async function killServer({ sessions, built }: TrialOptions): Promise<Verdict> {
  const runner = await playRunner(answersIn(CALL_MS));
  const fleet = await ourFleet(formatAddress(runner.address), built);
  try {
    return await underLoad(fleet, OURS, sessions, async () => {
      await sleep(WARM_MS);
      const window = await killed(fleet.backends[0]);
      await sleep(AFTER_MS);
      return { window, problems: [] };
    });
  } finally {
    runner.close();
  }
}

async function rollingRestart({ sessions, built }: TrialOptions): Promise<Verdict> {
  const runner = await playRunner(answersIn(CALL_MS));
  const fleet = await ourFleet(formatAddress(runner.address), built);
  try {
    return await underLoad(fleet, OURS, sessions, async () => {
      await sleep(WARM_MS);
      const problems: string[] = [];
      for (const replica of [...fleet.gateways, ...fleet.backends]) {
        const code = await replica.end('SIGTERM');
        if (code !== 0) problems.push(`a replica ended with ${code}`);
        await replica.start();
        if (!(await untilReady(replica))) problems.push('a replica did not become ready again');
        // Whoever rolls out waits until the others have seen that.
        await sleep(WARM_MS);
      }
      return { window: undefined, problems };
    });
  } finally {
    runner.close();
  }
}

/** One that hangs is found out by its missing answers, left alone, and used again when it is back. */
async function stopServer({ sessions, built }: TrialOptions): Promise<Verdict> {
  const runner = await playRunner(answersIn(CALL_MS));
  const fleet = await ourFleet(formatAddress(runner.address), built, ['--health-interval', '1s']);
  try {
    return await underLoad(fleet, OURS, sessions, async () => {
      await sleep(WARM_MS);
      const [stopped] = fleet.backends;
      if (!stopped) throw new Error('there are three servers');
      const from = performance.now();
      stopped.signal('SIGSTOP');
      // Each gateway looks for itself, and sends calls there until it has seen.
      const out = await backendUpAt(fleet.gateways, 0, false);
      const found = performance.now();
      await sleep(AFTER_MS);
      stopped.signal('SIGCONT');
      const back = await backendUpAt(fleet.gateways, 0, true);
      await sleep(AFTER_MS);
      return {
        // Those that hang in it end when it goes on.
        window: { from, to: found },
        problems: [
          ...(out ? [] : ['it was not taken out']),
          ...(back ? [] : ['it did not come back']),
        ],
      };
    });
  } finally {
    runner.close();
  }
}

interface Hit {
  /** When something was dead or dying: a call that was under way then may fail. */
  readonly window: { readonly from: number; readonly to: number } | undefined;
  readonly problems: readonly string[];
  /** Those whose longest call then counts. */
  readonly stalled?: ReadonlySet<Session>;
}

async function underLoad(
  fleet: Fleet,
  work: Work,
  sessions: number,
  hit: (load: Load) => Promise<Hit>,
): Promise<Verdict> {
  try {
    const load = new Load(fleet.url, sessions, work);
    await load.start();
    const { window, problems, stalled } = await hit(load);
    const since = window?.to ?? 0;
    const deadline = performance.now() + LIVES_WITHIN_MS;
    while (load.deadSince(since) > 0 && performance.now() < deadline) await sleep(50);
    await load.stop();
    const failed = load.outcomes.filter(({ problem }) => problem !== undefined);
    const excused = failed.filter(
      ({ from, to }) => window && from <= window.to && to >= window.from,
    );
    const dead = load.deadSince(since);
    return {
      calls: load.outcomes.length,
      inFlight: excused.length,
      // Each has called again within that time.
      ...(window &&
        stalled && {
          stallP99Ms: quantile(
            load.longest(stalled, { from: window.from, to: window.to + AFTER_MS }),
            0.99,
          ),
        }),
      problems: [
        ...problems,
        ...failed
          .filter((one) => !excused.includes(one))
          .map(({ problem }) => `a call: ${problem}`),
        ...(dead > 0 ? [`${dead} sessions are dead`] : []),
      ],
    };
  } finally {
    await fleet.stop();
  }
}

/** kill -9, and the time that it took until the process was gone. */
async function killed(replica: Replica | undefined): Promise<{ from: number; to: number }> {
  const from = performance.now();
  await replica?.end('SIGKILL');
  return { from, to: performance.now() };
}

/** Two gateways before three servers that we ship. */
function ourFleet(runner: string, built: boolean, argv: readonly string[] = []): Promise<Fleet> {
  return startFleet({
    gateways: 2,
    backends: 3,
    ours: true,
    heedReadiness: true,
    built,
    argv: () => [...NOTICE, ...argv],
    backend: (port) => [
      ...command(built),
      'server',
      '--listen',
      `127.0.0.1:${port}`,
      '--runner',
      runner,
      ...NOTICE,
    ],
  });
}

function answersIn(ms: number) {
  return async (): Promise<RunResponse> => {
    await sleep(ms);
    return RunResponse.fromPartial({
      started: { execId: 'exec-1', role: 'tester' },
      stdout: Buffer.from('1\n'),
      end: { killedBy: KilledBy.EXIT, exitCode: 0, usage: { wall: { seconds: 0n, nanos: 0 } } },
    });
  };
}
