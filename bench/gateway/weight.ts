import { readdirSync, readFileSync } from 'node:fs';
import { Agent, get } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Replica } from '../../test/support/replica.ts';
import { rssMib } from '../measure.ts';
import { BenchClient } from './client.ts';

const SESSIONS = 10_000;
const WARM_SESSIONS = 5_000;
const AT_ONCE = 50;
const STREAMS = 2_000;
const SETTLES_IN_MS = 6_000;

/** Resident memory of a replica in MiB. */
export function weightOf({ pid }: Replica): number {
  return rssMib(readFileSync(`/proc/${pid}/status`, 'utf8'));
}

/** What 10 000 sessions leave whose clients die without a DELETE: memory, and open descriptors beyond those that were there before. */
export async function afterSessions(
  gateway: Replica,
  token: string,
): Promise<Record<string, number>> {
  const before = descriptors(gateway);
  // What any work makes larger, compiled code and the space for new objects, is none of the sessions'.
  await openAndLeave(gateway, token, WARM_SESSIONS);
  const warm = weightOf(gateway);
  await openAndLeave(gateway, token, SESSIONS);
  await sleep(SETTLES_IN_MS); // the gateway's own idle connections to the server end by themselves
  return {
    rss_warm_mib: warm,
    rss_10k_sessions_mib: weightOf(gateway),
    descriptors_left_by_10k_sessions: descriptors(gateway) - before,
  };
}

async function openAndLeave(gateway: Replica, token: string, sessions: number): Promise<void> {
  for (let left = sessions; left > 0; left -= 500) {
    const client = new BenchClient(gateway.port, token, AT_ONCE);
    await Promise.all(
      Array.from({ length: AT_ONCE }, async () => {
        for (let turn = 0; turn < 500 / AT_ONCE; turn++) await client.openAndLeave();
      }),
    );
    await client.close(); // its sockets are cut, as those of a process that dies
  }
}

/** Memory with 2000 event streams open through the gateway. */
export async function withStreams(gateway: Replica, token: string): Promise<number> {
  const agent = new Agent({ keepAlive: false, maxSockets: Number.POSITIVE_INFINITY });
  const headers = { authorization: `Bearer ${token}`, accept: 'text/event-stream' };
  try {
    for (let open = 0; open < STREAMS; open += AT_ONCE)
      await Promise.all(
        Array.from({ length: AT_ONCE }, () => opened(gateway.port, agent, headers)),
      );
    await sleep(1_000);
    return weightOf(gateway);
  } finally {
    agent.destroy();
  }
}

function opened(port: number, agent: Agent, headers: Record<string, string>): Promise<void> {
  return new Promise((resolve, reject) => {
    get({ host: '127.0.0.1', port, path: '/mcp', agent, headers }, (response) => {
      response.resume().on('error', () => {}); // cut at the end
      if (response.statusCode === 200) resolve();
      else reject(new Error(`an event stream was answered ${response.statusCode}`));
    }).on('error', reject);
  });
}

function descriptors({ pid }: Replica): number {
  return readdirSync(`/proc/${pid}/fd`).length;
}
