import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { packageRoot } from '#core/package-root';
import { getPeers, type Peers } from '../../test/support/peers.ts';
import { freePort, waitFor } from '../../test/support/ports.ts';
import { CORES, pin } from '../egress/processes.ts';
import { BenchClient, median } from './client.ts';
import { membersOf, spent, startGateway } from './fleet.ts';
import type { Identity } from './identity.ts';

const AT_ONCE = 16;
const ROUNDS = 11;
const ROUND_MS = 1_000;
/** At the start of a turn, after those of all others: what a process that had nothing to do has let go comes back. */
const WARM_MS = 500;
const CHILD = [
  process.execPath,
  '--conditions=outrider-source',
  join(packageRoot, 'bench/gateway/stdio-backend.ts'),
];

const PROGRAMS = {
  supergateway: (peers: Peers, port: number) => [
    peers.program('supergateway'),
    '--stdio',
    CHILD.join(' '),
    '--outputTransport',
    'streamableHttp',
    '--stateful',
    '--port',
    String(port),
    '--logLevel',
    'none',
  ],
  mcp_proxy: (peers: Peers, port: number) => [
    peers.program('proxy'),
    '--port',
    String(port),
    '--host',
    '127.0.0.1',
    '--server',
    'stream',
    '--',
    ...CHILD,
  ],
} as const;

/** One session for each client, which has no word in the figures, and one for all. */
const MANNERS = ['', '_one_session'] as const;

export const PEER_FIGURES: readonly string[] = MANNERS.flatMap((manner) =>
  Object.keys(PROGRAMS).flatMap((name) => Object.values(namesOf(name, manner))),
);

/** Clients of one gateway: as many at once, each with a session and a connection of its own, or all of them in one session. */
interface Entrant {
  readonly pid: number;
  readonly clients: readonly BenchClient[];
  readonly rates: number[];
  readonly cpuUs: number[];
}

/**
 * Calls in a second through the gateways of others, each before the same server on stdio, which is how they are used, and through ours, in
 * turns. supergateway runs `--stateful`: without it, it starts a process for each request. Sixteen clients have a session each, as
 * clients do; the same in one session is printed as well, since supergateway has a process for each session. Each gateway has one core
 * to itself in its turns, and clients and servers share the other. The processor time is that of the gateway's process alone.
 */
export async function peersPart(identity: Identity): Promise<Record<string, number>> {
  const peers = getPeers(['supergateway', 'proxy']);
  pin(process.pid, CORES.rest); // and so all that are started from here on
  const fleet = await startGateway(identity);
  const { gateway } = membersOf(fleet);
  const children: ChildProcess[] = [];
  const entrants = new Map<string, Entrant>();
  const enter = async (name: string, pid: number, port: number, token?: string) => {
    entrants.set(name, await entrant(pid, port, token, AT_ONCE));
    entrants.set(`${name}_one_session`, await entrant(pid, port, token, 1));
  };
  try {
    await enter('ours', gateway.pid, gateway.port, identity.token);
    for (const [name, argv] of Object.entries(PROGRAMS)) {
      const port = await freePort();
      const child = spawn(process.execPath, argv(peers, port), { stdio: 'ignore' });
      children.push(child);
      await waitFor(port, child);
      await enter(name, child.pid ?? Number.NaN, port);
    }
    for (const { pid } of entrants.values()) pin(pid, CORES.subject);
    await compete([...entrants.values()]);
    return figuresOf(entrants);
  } finally {
    for (const { clients } of entrants.values())
      await Promise.all(clients.map((client) => client.close()));
    await Promise.all(children.map(killed));
    await fleet.stop();
    peers.remove();
    pin(process.pid, CORES.all);
  }
}

async function entrant(
  pid: number,
  port: number,
  token: string | undefined,
  sessions: number,
): Promise<Entrant> {
  const clients = Array.from(
    { length: sessions },
    () => new BenchClient(port, token, AT_ONCE / sessions),
  );
  for (const client of clients) await client.open();
  return { pid, clients, rates: [], cpuUs: [] };
}

/** Turn by turn, so that other work on this machine meets all of them. */
async function compete(entrants: readonly Entrant[]): Promise<void> {
  for (let round = 0; round <= ROUNDS; round++)
    for (const { pid, clients, rates, cpuUs } of entrants) {
      await load(clients, WARM_MS);
      const { rate, cpuUs: cpu } = await spent(pid, () => load(clients, ROUND_MS));
      if (round === 0) continue; // all get warm
      rates.push(rate);
      cpuUs.push(cpu);
    }
}

/** Calls in a second of all of them together. */
async function load(clients: readonly BenchClient[], ms: number): Promise<number> {
  const each = AT_ONCE / clients.length;
  const got = await Promise.all(clients.map((client) => client.rate(each, ms)));
  return got.reduce((sum, one) => sum + one, 0);
}

function figuresOf(entrants: ReadonlyMap<string, Entrant>): Record<string, number> {
  const figures: Record<string, number> = {};
  for (const manner of MANNERS) {
    const ours = entrants.get(`ours${manner}`)?.rates ?? [];
    for (const name of Object.keys(PROGRAMS)) {
      const { rates, cpuUs } = entrants.get(`${name}${manner}`) ?? { rates: [], cpuUs: [] };
      const names = namesOf(name, manner);
      figures[names.rate] = median(rates);
      figures[names.cpu] = median(cpuUs);
      figures[names.ratio] = median(ours.map((rate, round) => rate / (rates[round] ?? Number.NaN)));
    }
  }
  return figures;
}

function namesOf(name: string, manner: string): Record<'rate' | 'cpu' | 'ratio', string> {
  return {
    rate: `${name}${manner}_calls_per_s`,
    cpu: `${name}${manner}_cpu_us_per_call`,
    ratio: `calls_over_${name}${manner}`,
  };
}

async function killed(child: ChildProcess): Promise<void> {
  const exited = child.exitCode === null ? once(child, 'exit') : undefined;
  child.kill('SIGKILL');
  await exited;
}
