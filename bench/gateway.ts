import { setTimeout as sleep } from 'node:timers/promises';
import type { Replica } from '../test/support/replica.ts';
import { BenchClient, median } from './gateway/client.ts';
import { membersOf, program, spent, startGateway } from './gateway/fleet.ts';
import { type Identity, makeIdentity } from './gateway/identity.ts';
import { PEER_FIGURES, peersPart } from './gateway/peers.ts';
import { afterSessions, weightOf, withStreams } from './gateway/weight.ts';
import type { Wanted } from './group.ts';
import { quantile, timed } from './measure.ts';

const AT_ONCE = 16;
const ROUNDS = 5;
const ROUND_MS = 1_500;
const SINGLE_CALLS = 1_500;
/** Before them, so that nothing is compiled meanwhile: V8 does that on the cores that are measured. */
const WARM_CALLS = 3_000;
const STARTS = 5;

/** Figures that one run gives together, by what they are of. */
const PARTS = [
  {
    figures: [
      'start_ms',
      'rss_idle_mib',
      'empty_node_rss_mib',
      'rss_warm_mib',
      'rss_10k_sessions_mib',
      'descriptors_left_by_10k_sessions',
      'rss_2k_streams_mib',
    ],
    measure: weights,
  },
  {
    figures: [
      'calls_per_s',
      'bare_undici_calls_per_s',
      'calls_over_bare',
      'cpu_us_per_call',
      'bare_undici_cpu_us_per_call',
      'cpu_over_bare',
      'added_p50_ms',
      'added_p99_ms',
      'bare_undici_added_p50_ms',
      'bare_undici_added_p99_ms',
    ],
    measure: speeds,
  },
  { figures: PEER_FIGURES, measure: peersPart },
];

/**
 * The gateway from dist/ with tokens of an issuer, a Role, metrics and audit on; a pass-through that does nothing, and the gateways
 * of others, in the same run. What is compared takes turns, so that other work on this machine meets both. Only those parts run that have
 * a figure which is wanted.
 */
export async function gatewayPart(wanted: Wanted): Promise<Record<string, number>> {
  const identity = await makeIdentity();
  try {
    const figures: Record<string, number> = {};
    for (const part of PARTS) {
      if (!part.figures.some(wanted)) continue;
      process.stderr.write(`measuring ${part.figures.filter(wanted).join(', ')}\n`);
      Object.assign(figures, await part.measure(identity));
    }
    return figures;
  } finally {
    identity.remove();
  }
}

async function speeds(identity: Identity): Promise<Record<string, number>> {
  const fleet = await startGateway(identity);
  const { gateway, backend } = membersOf(fleet);
  const bare = program('bare.ts', `http://127.0.0.1:${backend.port}`);
  await bare.start();
  try {
    return {
      ...(await rates(gateway, bare, identity.token)),
      ...(await latencies(gateway, bare, backend, identity.token)),
    };
  } finally {
    await bare.end('SIGKILL');
    await fleet.stop();
  }
}

async function rates(
  gateway: Replica,
  bare: Replica,
  token: string,
): Promise<Record<string, number>> {
  const through = new BenchClient(gateway.port, token, AT_ONCE);
  const passed = new BenchClient(bare.port, undefined, AT_ONCE);
  await Promise.all([through.open(), passed.open()]);
  const [ours, theirs, ourCpu, theirCpu]: number[][] = [[], [], [], []];
  for (let round = 0; round <= ROUNDS; round++) {
    const a = await spent(gateway.pid, () => through.rate(AT_ONCE, ROUND_MS));
    const b = await spent(bare.pid, () => passed.rate(AT_ONCE, ROUND_MS));
    if (round === 0) continue; // both get warm
    ours?.push(a.rate);
    theirs?.push(b.rate);
    ourCpu?.push(a.cpuUs);
    theirCpu?.push(b.cpuUs);
  }
  await Promise.all([through.close(), passed.close()]);
  return {
    calls_per_s: median(ours ?? []),
    bare_undici_calls_per_s: median(theirs ?? []),
    calls_over_bare: median(
      (ours ?? []).map((rate, round) => rate / (theirs?.[round] ?? Number.NaN)),
    ),
    cpu_us_per_call: median(ourCpu ?? []),
    bare_undici_cpu_us_per_call: median(theirCpu ?? []),
    cpu_over_bare: median(
      (ourCpu ?? []).map((us, round) => us / (theirCpu?.[round] ?? Number.NaN)),
    ),
  };
}

/** What a gateway adds to one call at a time, and what a process adds that only passes it on. */
async function latencies(
  gateway: Replica,
  bare: Replica,
  backend: Replica,
  token: string,
): Promise<Record<string, number>> {
  const ways = [
    { client: new BenchClient(gateway.port, token, 1), took: [] as number[] },
    { client: new BenchClient(bare.port, undefined, 1), took: [] as number[] },
    { client: new BenchClient(backend.port, undefined, 1), took: [] as number[] },
  ] as const;
  await Promise.all(ways.map(({ client }) => client.open()));
  for (const { client } of ways) await client.latencies(WARM_CALLS);
  for (let round = 0; round < ROUNDS; round++)
    for (const { client, took } of ways)
      took.push(...(await client.latencies(SINGLE_CALLS / ROUNDS)));
  await Promise.all(ways.map(({ client }) => client.close()));
  const [through, passed, straight] = ways.map(({ took }) => took);
  const added = (took: number[] = [], at: number) =>
    quantile(took, at) - quantile(straight ?? [], at);
  return {
    added_p50_ms: added(through, 0.5),
    added_p99_ms: added(through, 0.99),
    bare_undici_added_p50_ms: added(passed, 0.5),
    bare_undici_added_p99_ms: added(passed, 0.99),
  };
}

async function weights(identity: Identity): Promise<Record<string, number>> {
  const empty = program('empty.mjs');
  await empty.start();
  const fleet = await startGateway(identity);
  const { gateway } = membersOf(fleet);
  try {
    const startMs: number[] = [];
    for (let run = 0; run < STARTS; run++) {
      await gateway.end('SIGKILL');
      startMs.push(await timed(() => gateway.start()));
    }
    await sleep(1_000);
    const idle = { rss_idle_mib: weightOf(gateway), empty_node_rss_mib: weightOf(empty) };
    const sessions = await afterSessions(gateway, identity.token);
    const streams = await withStreams(gateway, identity.token);
    return { start_ms: median(startMs), ...idle, ...sessions, rss_2k_streams_mib: streams };
  } finally {
    await empty.end('SIGKILL');
    await fleet.stop();
  }
}
