import { readdirSync } from 'node:fs';
import type { ExecStarted } from '#proto';
import { containerPid, containersNaming } from '../support/containers.ts';
import { readProc } from '../support/processes.ts';
import type { RunnerMesh } from '../support/runner-mesh.ts';

/**
 * `kill -9` of the first process of an exec's sandbox, found by the host uid that only this mesh gives out. In gVisor that process
 * is not one of the host's: there the kernel of the sandbox is killed, as the engine names it. It may be gone already.
 */
export function killAgent(mesh: RunnerMesh, started: ExecStarted, backend: string): void {
  const pid =
    backend === 'gvisor'
      ? containersNaming(started.sandboxId).map(containerPid)[0]
      : firstProcessOf(mesh, started.attestation?.hostUid ?? 0);
  if (pid === undefined || pid <= 1) return;
  try {
    process.kill(pid, 'SIGKILL');
  } catch {
    // It has ended by itself.
  }
}

function firstProcessOf(mesh: RunnerMesh, uid: number): number | undefined {
  if (!mesh.owns(uid)) throw new Error(`uid ${uid} is not one of this mesh's`);
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map(Number)
    .find((pid) => {
      const status = readProc(pid, 'status');
      return new RegExp(`^Uid:\\s+${uid}\\b`, 'm').test(status) && /^NSpid:.*\s1$/m.test(status);
    });
}
