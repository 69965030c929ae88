import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { text } from 'node:stream/consumers';
import { type Fleet, startFleet } from '../support/fleet.ts';
import { getPeers, type Peers } from '../support/peers.ts';
import { roundRobin } from '../support/round-robin.ts';
import { misused, toolOptions } from '../support/tool-options.ts';
import { scoreOf } from './score.ts';

/**
 * `npm run conformance`: the official suite, every scenario that each revision requires, against our server under test: as it is,
 * through one gateway, and through two gateways behind a round-robin balancer in front of two replicas. No failure is expected.
 */

const REVISIONS = ['2025-11-25', '2026-07-28'];
const WAYS: Readonly<Record<string, { gateways: number; backends: number }>> = {
  direct: { gateways: 1, backends: 1 },
  gateway: { gateways: 1, backends: 1 },
  balanced: { gateways: 2, backends: 2 },
};

const USAGE = `usage: npm run conformance -- [--only ${Object.keys(WAYS).join('|')}] [--verbose]`;

const { values } = toolOptions(USAGE, {
  options: { only: { type: 'string' }, verbose: { type: 'boolean' } },
});
const ways = Object.keys(WAYS).filter((way) => values.only === undefined || way === values.only);
if (ways.length === 0) misused(USAGE, `there is no way ${values.only}`);
const suite = getPeers(['conformance']);
try {
  if (await passesWithoutUs(suite)) {
    process.stdout.write(
      'control   two replicas without a gateway pass: the runs below prove nothing\n',
    );
    process.exitCode = 1;
  }
  for (const way of ways) if (!(await judge(way, suite))) process.exitCode = 1;
} finally {
  suite.remove();
}

/** Both revisions one way; whether every required scenario passed. */
async function judge(way: string, peers: Peers): Promise<boolean> {
  const fleet = await startFleet({ ...(WAYS[way] ?? { gateways: 1, backends: 1 }) });
  try {
    let passed = true;
    for (const revision of REVISIONS) {
      const { code, said } = await run(peers, urlOf(way, fleet), ['--requirements', revision]);
      const score = scoreOf(said);
      const good = code === 0 && score.failed.length === 0 && score.passed > 0;
      process.stdout.write(
        `${way.padEnd(8)}  ${revision}  ${score.passed} required scenarios passed, ${score.failed.length} failed${good ? '' : `: ${score.failed.join(', ')} (exit ${code})`}\n`,
      );
      if (!good || values.verbose) process.stdout.write(said);
      passed &&= good;
    }
    return passed;
  } finally {
    await fleet.stop();
  }
}

/** The control: with a session and two replicas, the balancer alone must not do. */
async function passesWithoutUs(peers: Peers): Promise<boolean> {
  const fleet = await startFleet({ gateways: 0, backends: 2 });
  const alone = await roundRobin(() => fleet.backends.map(({ port }) => port));
  try {
    const url = new URL(`http://localhost:${alone.port}/mcp`);
    const { code } = await run(peers, url, [
      '--scenario',
      'tools-call-simple-text',
      '--spec-version',
      '2025-11-25',
    ]);
    return code === 0;
  } finally {
    await alone.close();
    await fleet.stop();
  }
}

function urlOf(way: string, fleet: Fleet): URL {
  return way === 'direct'
    ? new URL(`http://localhost:${fleet.backends[0]?.port ?? 0}/mcp`)
    : fleet.url;
}

async function run(
  peers: Peers,
  url: URL,
  what: readonly string[],
): Promise<{ code: number | null; said: string }> {
  const child = spawn(
    process.execPath,
    [peers.program('conformance', 'conformance'), 'server', '--url', url.href, ...what],
    { stdio: ['ignore', 'pipe', 'inherit'] },
  );
  const [said] = await Promise.all([text(child.stdout), once(child, 'exit')]);
  return { code: child.exitCode, said };
}
