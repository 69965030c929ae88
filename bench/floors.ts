import { spawn } from 'node:child_process';
import { once } from 'node:events';

/** What anybody has without us: the same programs started by hand on this machine. Floors and peers, never parts of ours. */

/** Namespaces and nothing else, as this user: no seccomp, no limits, no door. A floor, not a peer. */
const BUBBLEWRAP = [
  'bwrap',
  '--unshare-all',
  '--die-with-parent',
  '--ro-bind',
  '/usr',
  '/usr',
  '--symlink',
  'usr/lib',
  '/lib',
  '--symlink',
  'usr/lib64',
  '/lib64',
  '--proc',
  '/proc',
  '--dev',
  '/dev',
  '--tmpfs',
  '/tmp',
];

/** argv of Python on the host. */
export function bareArguments(program: string): string[] {
  return ['/usr/bin/python3', '-c', program];
}

/** argv of Python under bubblewrap, by hand. */
export function bwrapArguments(program: string): string[] {
  return [...BUBBLEWRAP, ...bareArguments(program)];
}

/** Milliseconds from the start of a process to the first byte that it writes. */
export async function firstByteOf([program = '', ...args]: readonly string[]): Promise<number> {
  const from = performance.now();
  const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'inherit'] });
  await once(child.stdout, 'data');
  const first = performance.now() - from;
  await once(child, 'exit');
  return first;
}
