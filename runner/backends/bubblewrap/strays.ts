import { readdirSync, readFileSync } from 'node:fs';
import { basename } from 'node:path';

/**
 * Between its fork and its first namespace a box's first process has no parent-death signal yet: where bubblewrap is killed in
 * that moment, it stays for ever. These two find it.
 */

/** Ends a bubblewrap that has not said yet who its box's first process is, with whatever it has started. */
export function killStarting(pid: number): void {
  if (!signal(pid, 'SIGSTOP')) return; // from here on it starts nothing
  for (const child of childrenOf(pid)) signal(child, 'SIGKILL');
  signal(pid, 'SIGKILL');
}

/** Ends what a launcher that is no more left of boxes that had their places in `directory`. */
export function killStrays(directory: string): void {
  for (const entry of readdirSync('/proc')) {
    const pid = Number(entry);
    if (Number.isInteger(pid) && isOurs(argvOf(pid), directory)) signal(pid, 'SIGKILL');
  }
}

function isOurs([program = '', ...args]: readonly string[], directory: string): boolean {
  return basename(program) === 'bwrap' && args.some((arg) => arg.startsWith(`${directory}/`));
}

function argvOf(pid: number): string[] {
  return read(`/proc/${pid}/cmdline`).split('\0');
}

function childrenOf(pid: number): number[] {
  return read(`/proc/${pid}/task/${pid}/children`).trim().split(' ').filter(Boolean).map(Number);
}

/** Empty for a process that is gone, or not ours to see. */
function read(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
}

/** Whether there was such a process, and it was ours to signal. */
function signal(pid: number, name: 'SIGSTOP' | 'SIGKILL'): boolean {
  try {
    process.kill(pid, name);
    return true;
  } catch {
    return false;
  }
}
