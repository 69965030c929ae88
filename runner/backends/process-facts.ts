import { readFileSync, readlinkSync } from 'node:fs';
import { OutriderError } from '#core/errors';

/** What the kernel says of a process, seen from the host. */
export interface ProcessFacts {
  readonly hostUid: number;
  readonly ownNamespaces: readonly string[];
  readonly noNewPrivileges: boolean;
  readonly effectiveCapabilities: string;
  readonly seccompFilters: boolean;
}

export const NAMESPACES = ['user', 'pid', 'mnt', 'net', 'ipc', 'uts', 'cgroup'] as const;
export type Namespace = (typeof NAMESPACES)[number];

/** Reads `/proc/<pid>` of a box's first process. A namespace that cannot be read is not claimed to be the box's own. */
export function processFacts(pid: number): ProcessFacts {
  const status = readFileSync(`/proc/${pid}/status`, 'utf8');
  const field = (name: string): string =>
    new RegExp(`^${name}:\\s*(\\S+)`, 'm').exec(status)?.[1] ?? '';
  return {
    hostUid: Number(field('Uid')),
    ownNamespaces: NAMESPACES.filter((name) => {
      const [its, ours] = [namespaceOf(pid, name), namespaceOf('self', name)];
      return its !== undefined && ours !== undefined && its !== ours;
    }),
    noNewPrivileges: field('NoNewPrivs') === '1',
    effectiveCapabilities: field('CapEff'),
    seccompFilters: field('Seccomp') === '2',
  };
}

/** What a backend promises of a box's first process. */
export interface Promised {
  readonly namespaces: readonly Namespace[];
  /** Hexadecimal, as in /proc; absent: none at all. */
  readonly capabilities?: string;
}

/** Refuses a box that is weaker than its backend promises. @throws {OutriderError} SANDBOX_FAILED */
export function assertIsolated(facts: ProcessFacts, promised: Promised): void {
  const missing = promised.namespaces.filter((name) => !facts.ownNamespaces.includes(name));
  const allowed = BigInt(`0x${promised.capabilities ?? '0'}`);
  const problems = [
    ...(missing.length > 0 ? [`shares the host's ${missing.join(', ')} namespaces`] : []),
    ...(facts.hostUid === 0 ? ["runs as the host's root"] : []),
    ...(facts.noNewPrivileges ? [] : ['may gain privileges']),
    ...(holdsMore(facts.effectiveCapabilities, allowed) ? ['holds capabilities'] : []),
    ...(facts.seccompFilters ? [] : ['has no seccomp filter']),
  ];
  if (problems.length > 0)
    throw new OutriderError('SANDBOX_FAILED', `the sandbox ${problems.join(', ')}`);
}

function holdsMore(effective: string, allowed: bigint): boolean {
  return !/^[0-9a-f]+$/.test(effective) || (BigInt(`0x${effective}`) & ~allowed) !== 0n;
}

function namespaceOf(pid: number | 'self', name: Namespace): string | undefined {
  try {
    return readlinkSync(`/proc/${pid}/ns/${name}`);
  } catch {
    return undefined;
  }
}
