import { randomBytes } from 'node:crypto';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { HEAP_FLAGS } from '#core/heap';
import { createKeySet } from '#core/keys';
import { packageRoot } from '#core/package-root';
import { outriderArgv } from '#core/testing/outrider-argv';
import { eventHub } from './event-hub.ts';
import { watchReadiness } from './readiness.ts';
import { Replica, type ReplicaOptions } from './replica.ts';
import { type RoundRobin, roundRobin } from './round-robin.ts';

export interface FleetOptions {
  readonly gateways: number;
  readonly backends: number;
  /** Runs what `npm start` runs, dist/, instead of the sources. */
  readonly built?: boolean;
  /** Options of `outrider gateway`. */
  readonly argv?: (place: Place) => readonly string[];
  /** Instead of the server under test of test/conformance/: argv of one replica. */
  readonly backend?: (port: number, place: Place) => readonly string[];
  /** Ports of further servers, which others started. */
  readonly servers?: readonly number[];
  /** Whether the balancer asks the gateways whether they are ready. Without it, it is as dumb as can be. */
  readonly heedReadiness?: boolean;
  /** Whether those replicas are told who calls. */
  readonly ours?: boolean;
}

/** Directories and secrets of one fleet. */
export interface Place {
  readonly directory: string;
  readonly env: Readonly<Record<string, string>>;
  /** The local principal's. */
  readonly token: string;
}

/** Gateways behind a round-robin balancer, in front of replicas of one MCP server; each a process of its own. */
export interface Fleet {
  readonly place: Place;
  readonly gateways: readonly Replica[];
  readonly backends: readonly Replica[];
  readonly balancer: RoundRobin;
  /** The balancer's, which adds the token. */
  readonly url: URL;
  stop(): Promise<void>;
}

export async function startFleet(options: FleetOptions): Promise<Fleet> {
  const place = makePlace();
  const hub = await eventHub(join(place.directory, 'events.sock'));
  const backends = replicas(options.backends, () => ({
    argv: (port) => (options.backend ?? fixtureArgv)(port, place),
    env: place.env,
  }));
  await Promise.all(backends.map((backend) => backend.start()));
  const servers = [...backends.map(({ port }) => port), ...(options.servers ?? [])]
    .map((port) => `http://127.0.0.1:${port}/mcp`)
    .join(',');
  const gateways = replicas(options.gateways, (index) => ({
    argv: (port) => [
      ...command(options.built ?? false),
      'gateway',
      '--listen',
      `127.0.0.1:${port}`,
      '--servers',
      servers,
      '--servers-are',
      options.ours ? 'ours' : 'foreign',
      // A chain has one writer.
      '--audit',
      join(place.directory, `audit-${index}.jsonl`),
      ...(options.argv?.(place) ?? []),
    ],
    env: place.env,
  }));
  // One after the other: the first makes the key that seals session ids, the others find it.
  for (const gateway of gateways) await gateway.start();
  const readiness = options.heedReadiness ? watchReadiness(gateways) : undefined;
  const targets = () => readiness?.ready() ?? gateways;
  const balancer = await roundRobin(() => targets().map(({ port }) => port), {
    authorization: `Bearer ${place.token}`,
  });
  return {
    place,
    gateways,
    backends,
    balancer,
    url: new URL(`http://localhost:${balancer.port}/mcp`),
    async stop() {
      readiness?.end();
      await balancer.close();
      await Promise.all([...gateways, ...backends].map((replica) => replica.end('SIGKILL')));
      await hub.close();
      rmSync(place.directory, { recursive: true, force: true });
    },
  };
}

/** argv of `outrider`, from dist/, as `outrider up` starts its parts, or from the sources. */
export function command(built: boolean): string[] {
  return built ? [...HEAP_FLAGS, ...outriderArgv(true)] : outriderArgv();
}

/** argv of one replica of the server under test. */
function fixtureArgv(port: number, { directory, token }: Place): string[] {
  return [
    '--conditions=outrider-source',
    join(packageRoot, 'test/conformance/fixture/main.ts'),
    String(port),
    token, // any secret of 32 bytes or more that all replicas know
    join(directory, 'events.sock'),
  ];
}

function replicas(count: number, options: (index: number) => ReplicaOptions): Replica[] {
  return Array.from({ length: count }, (_, index) => new Replica(options(index)));
}

function makePlace(): Place {
  const directory = mkdtempSync(join(tmpdir(), 'outrider-fleet-'));
  const [runtime, state] = [join(directory, 'run'), join(directory, 'state')];
  createKeySet(join(runtime, 'keys'));
  mkdirSync(state, { mode: 0o700 });
  const token = randomBytes(32).toString('base64url');
  writeFileSync(join(state, 'token'), token, { mode: 0o600 });
  return {
    directory,
    token,
    env: { OUTRIDER_RUNTIME_DIR: runtime, OUTRIDER_STATE_DIR: state },
  };
}
