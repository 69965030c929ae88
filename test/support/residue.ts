import { createHash } from 'node:crypto';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { containersNaming } from './containers.ts';
import { isAlive, processesNaming, readProc } from './processes.ts';
import type { RunnerMesh } from './runner-mesh.ts';

/** Everything of a mesh that this machine holds now, kind by kind, each as a line to read. */
export type Residue = Readonly<
  Record<'processes' | 'mounts' | 'cgroups' | 'containers' | 'sockets' | 'files', readonly string[]>
>;

/** What is there of a mesh now: it names the mesh's directory or runs as one of its uids. */
export function residueOf(mesh: RunnerMesh): Residue {
  const containers = containersNaming(mesh.directory);
  return {
    processes: processesOf(mesh, containers),
    mounts: linesNaming('/proc/self/mountinfo', mesh.directory),
    cgroups: [...cgroupsOf(mesh), ...containers.flatMap(cgroupsNamed)],
    containers,
    sockets: linesNaming('/proc/net/unix', mesh.directory),
    files: [...filesIn(mesh.runtime), ...filesIn(mesh.sandboxes), ...filesIn(mesh.temporary)],
  };
}

/** Of a mesh whose parts have stopped: what should not be there, after the kernel and the engine had a moment to clear up. */
export async function leftOf(mesh: RunnerMesh, withinMs = 5_000): Promise<Partial<Residue>> {
  const deadline = Date.now() + withinMs;
  for (;;) {
    const left = Object.fromEntries(
      Object.entries(residueOf(mesh)).filter(([, things]) => things.length > 0),
    );
    if (Object.keys(left).length === 0 || Date.now() > deadline) return left;
    await sleep(50);
  }
}

/**
 * How many sandboxes of a running mesh leave a trace of each kind: none may be larger than the number that the runner knows of. As
 * an ordinary user, sandboxes have no user of their own to be told by.
 */
export function tracesOf(mesh: RunnerMesh): Record<'directories' | 'users' | 'cgroups', number> {
  const isSandbox = (path: string) => basename(path).startsWith('sbx-');
  const users = pids()
    .map(uidOf)
    .filter((uid) => mesh.owns(uid));
  return {
    directories: filesIn(mesh.sandboxes).filter(isSandbox).length,
    users: new Set(users).size,
    cgroups: new Set(
      cgroupsOf(mesh)
        .filter(isSandbox)
        .map((path) => basename(path)),
    ).size,
  };
}

function processesOf(mesh: RunnerMesh, containers: readonly string[]): string[] {
  const naming = processesNaming(mesh.directory).map(({ pid }) => pid);
  const ours = pids().filter((pid) => {
    if (mesh.owns(uidOf(pid))) return true;
    const line = readProc(pid, 'cmdline');
    return containers.some((id) => line.includes(id));
  });
  return [...new Set([...naming, ...ours])]
    .filter(isAlive)
    .map((pid) => `${pid} ${readProc(pid, 'cmdline').split('\0').join(' ').slice(0, 160)}`);
}

function pids(): number[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map(Number);
}

function uidOf(pid: number): number {
  return Number(/^Uid:\s+(\d+)/m.exec(readProc(pid, 'status'))?.[1] ?? -1);
}

const CGROUPS = '/sys/fs/cgroup';

/** The mounts of control groups: one of version 2, or one for each controller of version 1. */
function hierarchies(): string[] {
  if (existsSync(join(CGROUPS, 'cgroup.controllers'))) return [CGROUPS];
  return ['unified', 'memory', 'pids', 'cpu'].map((name) => join(CGROUPS, name)).filter(existsSync);
}

/** The group that a runner names after its directory of sandboxes, and what is in it. */
function cgroupsOf(mesh: RunnerMesh): string[] {
  const hash = createHash('sha256').update(mesh.sandboxes).digest('hex').slice(0, 12);
  return hierarchies()
    .map((root) => join(root, `outrider-${hash}`))
    .filter(existsSync)
    .flatMap((path) => [path, ...directoriesIn(path)]);
}

function cgroupsNamed(containerId: string): string[] {
  return hierarchies()
    .flatMap((root) => [join(root, 'docker', containerId), join(root, containerId)])
    .filter(existsSync);
}

function linesNaming(file: string, text: string): string[] {
  return readFileSync(file, 'utf8')
    .split('\n')
    .filter((line) => line.includes(text));
}

/** Keys and the local principal's assertion are the supervisor's, who is the test. */
const SUPERVISORS = new Set(['keys', 'local-assertion.jwt']);

function filesIn(directory: string): string[] {
  if (!existsSync(directory)) return [];
  return readdirSync(directory)
    .filter((name) => !SUPERVISORS.has(name))
    .map((name) => join(directory, name));
}

function directoriesIn(path: string): string[] {
  return readdirSync(path, { withFileTypes: true })
    .filter((entry) => entry.isDirectory())
    .map(({ name }) => join(path, name));
}
