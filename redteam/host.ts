import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { hostname, networkInterfaces } from 'node:os';

/** What the host says of itself: read before and after every attack. */

const SYSCTLS = [
  'kernel/core_pattern',
  'kernel/modprobe',
  'kernel/hotplug',
  'kernel/printk_ratelimit_burst',
  'kernel/randomize_va_space',
  'kernel/domainname',
  'kernel/sysrq',
  'vm/overcommit_memory',
  'fs/suid_dumpable',
  'net/ipv4/ip_forward',
] as const;

/** What no attack may change and nothing else changes meanwhile. A name has no value where the host has no such thing. */
export function machineFacts(): Readonly<Record<string, string>> {
  const sysctls = SYSCTLS.map((name): [string, string] => [name, readOr(`/proc/sys/${name}`)]);
  return {
    ...Object.fromEntries(sysctls),
    'the name': hostname(),
    'the swap space': readOr('/proc/swaps'),
    'the module list': readOr('/proc/modules').replaceAll(/^(\S+).*$/gm, '$1'),
    'the hot-plug program': readOr('/sys/kernel/uevent_helper'),
  };
}

/** Processes, other than this one, with this text in their arguments. Zombies have none. */
export function processesNaming(text: string): number[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map(Number)
    .filter((pid) => pid !== process.pid)
    .filter((pid) => readOr(`/proc/${pid}/cmdline`).includes(text));
}

/** Every address of this machine, loopback too. */
export function ownAddresses(): string[] {
  return Object.values(networkInterfaces()).flatMap((list) =>
    (list ?? []).map(({ address, scopeid }) => (scopeid ? '' : address)).filter(Boolean),
  );
}

/** Resident memory in bytes; 0 where there is no such process. */
export function residentBytes(pid: number): number {
  return Number(/^VmRSS:\s+(\d+)/m.exec(readOr(`/proc/${pid}/status`))?.[1] ?? 0) * 1_024;
}

export function readOr(path: string, otherwise = ''): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return otherwise;
  }
}

/** Whether a program is there to be run. */
export function runs(command: string, ...argv: readonly string[]): boolean {
  try {
    execFileSync(command, argv, { stdio: 'ignore', timeout: 5_000 });
    return true;
  } catch {
    return false;
  }
}
