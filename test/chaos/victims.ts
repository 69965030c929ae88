import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { join } from 'node:path';
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
  if (pid !== undefined && pid > 1) tryKill(pid);
}

/** `kill -9` of the sidecar that an exec's sandbox has for its own, found by the socket that it listens on. It may be gone already. */
export function killOwnSidecar(mesh: RunnerMesh, { sandboxId }: ExecStarted): void {
  const door = join(mesh.sandboxes, sandboxId, 'egress');
  const sockets = readFileSync('/proc/net/unix', 'utf8')
    .split('\n')
    .filter((line) => line.endsWith(` ${door}`))
    .map((line) => `socket:[${line.split(/\s+/)[6]}]`);
  const sidecar = mesh.sidecars().find((pid) => openOf(pid).some((one) => sockets.includes(one)));
  if (sidecar !== undefined) tryKill(sidecar);
}

/** It may have ended by itself. */
export function tryKill(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL');
  } catch {}
}

function firstProcessOf(mesh: RunnerMesh, uid: number): number | undefined {
  if (!mesh.owns(uid)) throw new Error(`uid ${uid} is not one of this mesh's`);
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map(Number)
    .find((pid) => {
      const status = readProc(pid, 'status');
      if (/^State:\s+Z/m.test(status)) return false; // of an earlier sandbox of this uid, dead and not yet reaped
      return new RegExp(`^Uid:\\s+${uid}\\b`, 'm').test(status) && /^NSpid:.*\s1$/m.test(status);
    });
}

/** What a process's descriptors lead to. */
function openOf(pid: number): string[] {
  try {
    return readdirSync(`/proc/${pid}/fd`).map((fd) => linkOf(`/proc/${pid}/fd/${fd}`));
  } catch {
    return [];
  }
}

function linkOf(path: string): string {
  try {
    return readlinkSync(path);
  } catch {
    return ''; // it was closed meanwhile
  }
}
