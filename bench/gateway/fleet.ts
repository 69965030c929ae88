import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { packageRoot } from '#core/package-root';
import { type Fleet, startFleet } from '../../test/support/fleet.ts';
import { Replica } from '../../test/support/replica.ts';
import { timed } from '../measure.ts';
import type { Identity } from './identity.ts';

const TICKS_PER_S = 100;

/** One gateway from dist/ with everything on, before one server that answers at once. */
export function startGateway(identity: Identity): Promise<Fleet> {
  const backend = join(packageRoot, 'bench/gateway/backend.ts');
  return startFleet({
    gateways: 1,
    backends: 1,
    built: true,
    argv: () => identity.argv,
    backend: (port) => ['--conditions=outrider-source', backend, String(port)],
  });
}

/** A program of this directory, which is told its port and `more`. */
export function program(name: string, ...more: readonly string[]): Replica {
  const file = join(packageRoot, 'bench/gateway', name);
  return new Replica({
    argv: (port) => ['--conditions=outrider-source', file, String(port), ...more],
  });
}

/** The two processes of such a fleet. */
export function membersOf({ gateways, backends }: Fleet): { gateway: Replica; backend: Replica } {
  const [gateway, backend] = [gateways[0], backends[0]];
  if (!gateway || !backend) throw new Error('there is one of each');
  return { gateway, backend };
}

/** Calls in a second of a round, and the processor time that the process `pid` spent on each of them, in microseconds. */
export async function spent(
  pid: number,
  round: () => Promise<number>,
): Promise<{ rate: number; cpuUs: number }> {
  const before = cpuSeconds(pid);
  let rate = 0;
  const ms = await timed(async () => {
    rate = await round();
  });
  const calls = (rate * ms) / 1_000;
  return { rate, cpuUs: ((cpuSeconds(pid) - before) * 1e6) / calls };
}

/** User and system time of a process (proc(5), stat: utime and stime). */
function cpuSeconds(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]?.split(' ') ?? [];
  return (Number(fields[11]) + Number(fields[12])) / TICKS_PER_S;
}
