import { readdirSync, readFileSync } from 'node:fs';

/** A process of this machine as /proc shows it. */
export interface Seen {
  readonly pid: number;
  readonly parent: number;
  readonly argv: readonly string[];
}

/** Every process that names `text` in its arguments, its environment or what it has mounted. This one is never among them. */
export function processesNaming(text: string): Seen[] {
  const names = (pid: number, file: string) => readProc(pid, file).includes(text);
  return pids()
    .filter((pid) => pid !== process.pid)
    .filter((pid) => ['cmdline', 'environ', 'mountinfo'].some((file) => names(pid, file)))
    .map(seen);
}

/** The children of a process, and theirs. */
export function descendantsOf(pid: number): Seen[] {
  const all = pids().map(seen);
  const below = (parent: number): Seen[] =>
    all.filter((one) => one.parent === parent).flatMap((child) => [child, ...below(child.pid)]);
  return below(pid);
}

/** A file of /proc/PID; empty where the process is gone or does not let itself be read. */
export function readProc(pid: number, file: string): string {
  try {
    return readFileSync(`/proc/${pid}/${file}`, 'utf8');
  } catch {
    return '';
  }
}

/** Whether it runs; a zombie does not. */
export function isAlive(pid: number): boolean {
  const state = /^\d+ \(.*\) (\S)/s.exec(readProc(pid, 'stat'))?.[1];
  return state !== undefined && state !== 'Z' && state !== 'X';
}

function pids(): number[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map(Number);
}

export function seen(pid: number): Seen {
  const parent = /^\d+ \(.*\) \S (\d+)/s.exec(readProc(pid, 'stat'))?.[1];
  return { pid, parent: Number(parent ?? 0), argv: readProc(pid, 'cmdline').split('\0') };
}
