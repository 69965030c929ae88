import { readdirSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { containersNaming } from '../../test/support/containers.ts';
import { descendantsOf, readProc } from '../../test/support/processes.ts';
import { killedBy } from '../../test/support/runner-client.ts';
import type { RunnerMesh } from '../../test/support/runner-mesh.ts';
import type { Group, Wanted } from '../group.ts';
import { quantile } from '../measure.ts';
import { benchMesh, calm, USUAL } from './mesh.ts';

/** Leaves its session twice and comes back to nobody: what a kill of the program's process group does not reach. */
const DAEMONS = `
import os, time
for _ in range(2):
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            while True: time.sleep(60)
        os._exit(0)
print("ready", flush=True)
while True: time.sleep(60)
`;
const PROCESSES_MIN = 3;
const GONE_WITHIN_MS = 10_000;

/** How often for each backend, and the time limit that is reached: long enough for the daemons to be there. */
const BACKENDS = {
  reap_p99_ms: { backend: 'bubblewrap', rounds: 120, timeoutMs: 250 },
  reap_docker_p99_ms: { backend: 'docker', rounds: 40, timeoutMs: 700 },
  reap_gvisor_p99_ms: { backend: 'gvisor', rounds: 40, timeoutMs: 1_500 },
} as const;

/** From the moment that an exec's time limit is reached until no process of its sandbox is left, daemonised grandchildren included. */
export const reap: Group = {
  figures: Object.keys(BACKENDS),
  async measure(wanted: Wanted) {
    const asked = Object.entries(BACKENDS).filter(([figure]) => wanted(figure));
    const names = new Set(['bubblewrap', ...asked.map(([, { backend }]) => backend)]);
    const mesh = await benchMesh({ python: `profiles: [python], ${USUAL}` }, [...names]);
    const figures: Record<string, number> = {};
    try {
      for (const [figure, { backend, rounds, timeoutMs }] of asked) {
        const samples: number[] = [];
        for (let round = 0; round < rounds; round++) {
          await calm(mesh);
          samples.push(await reaped(mesh, backend, timeoutMs));
        }
        figures[figure] = quantile(samples, 0.99);
      }
    } finally {
      await mesh.stop();
    }
    return figures;
  },
};

/**
 * The limit counts from the program's start, which is never before the `started_at` that the runner reports: this errs on the slow
 * side.
 */
async function reaped(mesh: RunnerMesh, backend: string, timeoutMs: number): Promise<number> {
  let limitAt = 0;
  let gone: Promise<number> | undefined;
  let sandboxId = '';
  let uid = -1;
  for await (const response of mesh.client.exec({ code: DAEMONS, backend, timeoutMs }).responses) {
    if (response.$case === 'started') {
      const { startedAt, attestation } = response.value;
      sandboxId = response.value.sandboxId;
      uid = attestation?.hostUid ?? -1;
      limitAt = (startedAt?.getTime() ?? Number.NaN) + timeoutMs;
    } else if (response.$case === 'stdout') {
      gone = goneAt(pidsOf(mesh, backend, sandboxId, uid), limitAt);
      gone.catch(() => {}); // told below
    } else if (response.$case === 'end' && killedBy(response.value) !== 'timeout')
      throw new Error(`the program ended by ${killedBy(response.value)}`);
  }
  if (!gone) throw new Error(`the program did not get ready within ${timeoutMs} ms`);
  return (await gone) - limitAt;
}

/** When none of these processes is there any more: not even as a zombie. Looks once a millisecond from the limit on. */
async function goneAt(pids: readonly number[], limitAt: number): Promise<number> {
  await sleep(Math.max(0, limitAt - Date.now() - 2));
  if (!pids.every(exists)) throw new Error('a process ended before the limit');
  while (pids.some(exists)) {
    if (Date.now() > limitAt + GONE_WITHIN_MS) throw new Error('a process outlived its limit');
    await sleep(1);
  }
  return performance.timeOrigin + performance.now();
}

function exists(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch {
    return false;
  }
}

/** The sandbox's processes on this host: by its uid, or, where the host sees only gVisor's own, by its container. */
function pidsOf(mesh: RunnerMesh, backend: string, sandboxId: string, uid: number): number[] {
  const pids = backend === 'gvisor' ? gvisorPids(containerOf(sandboxId)) : uidPids(mesh, uid);
  if (pids.length < (backend === 'gvisor' ? 2 : PROCESSES_MIN))
    throw new Error(`${backend}: only ${pids.length} processes of the sandbox were found`);
  return pids;
}

function uidPids(mesh: RunnerMesh, uid: number): number[] {
  if (!mesh.owns(uid)) throw new Error(`uid ${uid} is not one of this mesh's`);
  return allPids().filter((pid) =>
    new RegExp(`^Uid:\\s+${uid}\\b`, 'm').test(readProc(pid, 'status')),
  );
}

/** The kernel of a sandbox, its file server, and what they have forked. */
function gvisorPids(container: string): number[] {
  const own = allPids().filter((pid) => {
    const line = readProc(pid, 'cmdline');
    return line.startsWith('runsc-') && line.includes(container);
  });
  return [...own, ...own.flatMap((pid) => descendantsOf(pid).map((child) => child.pid))];
}

function allPids(): number[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map(Number);
}

function containerOf(sandboxId: string): string {
  const [id] = containersNaming(sandboxId);
  if (id === undefined) throw new Error(`there is no container of ${sandboxId}`);
  return id;
}
