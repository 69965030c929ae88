import { setTimeout as sleep } from 'node:timers/promises';
import type { ProxyProcess } from '../../test/support/proxies.ts';
import { startRedis } from '../../test/support/redis.ts';
import type { Group } from '../group.ts';
import { startBuiltProxies } from './one.ts';
import { startUpstream } from './upstream.ts';

const PROXIES = 4;
const RATE = 100;
const BURST = 10;
const RUN_MS = 10_000;

interface Run {
  readonly through: number;
  /** What one proxy alone would let through in that time. */
  readonly allowed: number;
  /** Refused of those who ask for less than an equal share, since Redis was killed. */
  readonly refusedWithinShare: number;
}

/**
 * Four proxies that share a limit through Redis: one is asked for much more than the limit, three for less than their share. How much
 * more goes through than the limit says, in percent (0 where it is less), while Redis is there and while it is killed half way.
 */
export const overadmission: Group = {
  figures: [
    'overadmission_pct',
    'overadmission_used_pct',
    'overadmission_killed_pct',
    'killed_refused_within_share',
  ],
  async measure() {
    const steady = await run(false);
    const killed = await run(true);
    return {
      overadmission_pct: over(steady),
      overadmission_used_pct: (100 * steady.through) / steady.allowed,
      overadmission_killed_pct: over(killed),
      killed_refused_within_share: killed.refusedWithinShare,
    };
  },
};

function over({ through, allowed }: Run): number {
  return Math.max(0, (100 * through) / allowed - 100);
}

async function run(kill: boolean): Promise<Run> {
  const redis = await startRedis();
  const upstream = await startUpstream();
  const proxies = await startBuiltProxies(
    PROXIES,
    upstream.port,
    { limits: { redis: `redis://127.0.0.1:${redis.port}`, proxies: PROXIES } },
    { rate: `${RATE}/s`, burst: BURST },
  );
  try {
    const tokens = await Promise.all(
      proxies.each.map((_, at) => proxies.token({ sandboxId: `sbx-${at}` })),
    );
    const from = performance.now();
    const counts = { through: 0, refusedWithinShare: 0 };
    let killedAt = Number.POSITIVE_INFINITY;
    const caller = async (one: ProxyProcess, token: string, everyMs: number): Promise<void> => {
      while (performance.now() - from < RUN_MS) {
        const { status } = await one.ask('/http/api/1k', token);
        if (status === 200) counts.through += 1;
        else if (everyMs > 2 && performance.now() > killedAt) counts.refusedWithinShare += 1;
        // After the answer: a request that was late is not followed by one that is early.
        await sleep(everyMs);
      }
    };
    const killer = async (): Promise<void> => {
      if (!kill) return;
      await sleep(RUN_MS / 2);
      await redis.kill();
      killedAt = performance.now();
    };
    await Promise.all([
      killer(),
      ...proxies.each.flatMap((one, at) => {
        const token = tokens[at] ?? '';
        return at === 0
          ? [caller(one, token, 2), caller(one, token, 2)]
          : [caller(one, token, (1_000 / (RATE / PROXIES)) * 1.25)];
      }),
    ]);
    const allowed = BURST + (RATE * (performance.now() - from)) / 1_000;
    return { ...counts, allowed };
  } finally {
    await proxies.stop();
    await upstream.stop();
    await redis.stop();
  }
}
