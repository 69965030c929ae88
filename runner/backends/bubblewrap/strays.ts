import { readdirSync, readFileSync } from 'node:fs';
import { basename } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

/**
 * A box's first process has no parent-death signal before its last step, and waits for bubblewrap without noticing its end: where
 * bubblewrap is killed in between, or ends because nobody reads its status any more, it stays for ever. These two find it.
 */

const GONE_WITHIN_MS = 5_000;
const LOOK_EVERY_MS = 5;

/** Ends a bubblewrap that has not said yet who its box's first process is, with whatever it has started. */
export function killStarting(pid: number): void {
  if (!signal(pid, 'SIGSTOP')) return; // from here on it starts nothing
  for (const child of childrenOf(pid)) signal(child, 'SIGKILL');
  signal(pid, 'SIGKILL');
}

/**
 * Ends what a launcher that is no more left of boxes that had their places in `directory`, and resolves when none of it is there: one
 * that is starting may start another while the first look goes on, and a user must be free before the next sandbox gets it.
 */
export async function endStrays(directory: string): Promise<void> {
  const deadline = Date.now() + GONE_WITHIN_MS;
  // What is somebody else's to end is no stray of ours.
  while (straysOf(directory).filter((pid) => signal(pid, 'SIGKILL')).length > 0) {
    if (Date.now() > deadline) return; // the kernel holds it; it runs nothing any more
    await sleep(LOOK_EVERY_MS);
  }
}

function straysOf(directory: string): number[] {
  return readdirSync('/proc')
    .map(Number)
    .filter((pid) => Number.isInteger(pid) && isOurs(argvOf(pid), directory));
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
