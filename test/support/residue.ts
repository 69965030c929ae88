import { createHash } from 'node:crypto';
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { basename, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { containerLines, containersNaming, idOf } from './containers.ts';
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
    processes: processesOf(mesh, containers).map(described),
    mounts: linesNaming('/proc/self/mountinfo', mesh.directory),
    cgroups: [...cgroupsOf(mesh.sandboxes), ...containers.flatMap(cgroupsNamed)],
    containers,
    sockets: linesNaming('/proc/net/unix', mesh.directory),
    files: [...filesIn(mesh.runtime), ...filesIn(mesh.sandboxes), ...filesIn(mesh.temporary)],
  };
}

/** Of a mesh whose parts have stopped: what should not be there, after the kernel and the engine had a moment to clear up. */
export async function leftOf(mesh: RunnerMesh, withinMs = 60_000): Promise<Partial<Residue>> {
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
 * Of a mesh that runs and is at rest: what belongs to no sandbox that its runner knows of and to no part, after a moment to come to
 * rest. The runner says how many it knows; each of them has a directory, and everything else must name one of these. As an ordinary
 * user sandboxes have no user of their own to be told by.
 */
export async function strangersIn(mesh: RunnerMesh, withinMs = 60_000): Promise<Partial<Residue>> {
  const deadline = Date.now() + withinMs;
  for (;;) {
    const { detail } = await mesh.ready();
    const found = beyond(mesh, Number(detail['warm']) + Number(detail['running']));
    if (Object.keys(found).length === 0 || Date.now() > deadline) return found;
    await sleep(50);
  }
}

/** What is there beyond this many sandboxes, the parts, and what the parts keep. */
function beyond(mesh: RunnerMesh, known: number): Partial<Residue> {
  const directories = filesIn(mesh.sandboxes).filter(isSandbox);
  const ids = directories.map((path) => basename(path));
  const ofKnown = (line: string) => ids.some((id) => line.includes(id));
  const lines = containerLines(mesh.directory);
  const [familiar, foreign] = [lines.filter(ofKnown), lines.filter((line) => !ofKnown(line))];
  const parts = new Set(mesh.parts().map(({ pid }) => pid));
  const users = new Set(directories.map(groupOf));
  const sidecars = new Set(mesh.parts().map(({ argv }) => listenPath(argv)));
  const left: Residue = {
    processes: processesOf(mesh, lines.map(idOf))
      .filter((pid) => {
        const line = readProc(pid, 'cmdline');
        if (parts.has(pid) || ofKnown(line)) return false;
        if (familiar.some((container) => line.includes(idOf(container)))) return false;
        // Bubblewrap names its sandbox: where that is not known, it is a stray, whoever has its user now.
        return line.includes(mesh.sandboxes) || !users.has(uidOf(pid));
      })
      .map(described),
    mounts: linesNaming('/proc/self/mountinfo', mesh.directory),
    cgroups: cgroupsOf(mesh.sandboxes).filter((path) => isSandbox(path) && !ofKnown(path)),
    containers: foreign,
    sockets: linesNaming('/proc/net/unix', mesh.sandboxes).filter(
      (line) => !ofKnown(line) && !isKept(basename(line)) && !sidecars.has(pathIn(line)),
    ),
    files: [
      ...directories.slice(known).map((path) => `${path}, one of more than ${known}`),
      ...[...filesIn(mesh.sandboxes), ...filesIn(join(mesh.sandboxes, 'runner'))].filter(
        (path) => !isSandbox(path) && !isKept(basename(path)) && !sidecars.has(path),
      ),
      ...filesIn(mesh.temporary),
    ],
  };
  return Object.fromEntries(Object.entries(left).filter(([, things]) => things.length > 0));
}

const isSandbox = (path: string): boolean => basename(path).startsWith('sbx-');

/** What a launcher and a runner have in the directory of the sandboxes for as long as they run. */
const isKept = (name: string): boolean =>
  ['agent', 'etc', 'seccomp.bpf', 'owner.sock', 'runner', 'artefacts', 'code'].includes(name);

/** The group of a sandbox's directory is its user's, who has the same number. */
function groupOf(directory: string): number {
  return statSync(directory, { throwIfNoEntry: false })?.gid ?? -1;
}

function listenPath(argv: readonly string[]): string {
  return argv[argv.indexOf('--listen') + 1]?.replace(/^unix:/, '') ?? '';
}

/** The path in a line of /proc/net/unix. */
function pathIn(line: string): string {
  return line.slice(line.indexOf('/'));
}

function processesOf(mesh: RunnerMesh, containers: readonly string[]): number[] {
  const naming = processesNaming(mesh.directory).map(({ pid }) => pid);
  const ours = pids().filter((pid) => {
    if (mesh.owns(uidOf(pid))) return true;
    const line = readProc(pid, 'cmdline');
    return containers.some((id) => line.includes(id));
  });
  return [...new Set([...naming, ...ours])].filter(isAlive);
}

function described(pid: number): string {
  return `${pid} ${readProc(pid, 'cmdline').split('\0').join(' ').slice(0, 160)}`;
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
export function cgroupsOf(sandboxes: string): string[] {
  const hash = createHash('sha256').update(sandboxes).digest('hex').slice(0, 12);
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
