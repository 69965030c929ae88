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

const NAMESPACES = ['user', 'pid', 'mnt', 'net', 'ipc', 'uts', 'cgroup'] as const;
/** Without every one of these a box is no box. */
const REQUIRED = ['user', 'pid', 'mnt', 'net', 'ipc'] as const;

/** Reads `/proc/<pid>` of a box's first process. */
export function processFacts(pid: number): ProcessFacts {
  const status = readFileSync(`/proc/${pid}/status`, 'utf8');
  const field = (name: string): string =>
    new RegExp(`^${name}:\\s*(\\S+)`, 'm').exec(status)?.[1] ?? '';
  return {
    hostUid: Number(field('Uid')),
    ownNamespaces: NAMESPACES.filter(
      (name) => namespaceOf(pid, name) !== namespaceOf('self', name),
    ),
    noNewPrivileges: field('NoNewPrivs') === '1',
    effectiveCapabilities: field('CapEff'),
    seccompFilters: field('Seccomp') === '2',
  };
}

/** Refuses a box that is weaker than the backend promises. @throws {OutriderError} SANDBOX_FAILED */
export function assertIsolated(facts: ProcessFacts): void {
  const missing = REQUIRED.filter((name) => !facts.ownNamespaces.includes(name));
  const problems = [
    ...(missing.length > 0 ? [`shares the host's ${missing.join(', ')} namespaces`] : []),
    ...(facts.hostUid === 0 ? ["runs as the host's root"] : []),
    ...(facts.noNewPrivileges ? [] : ['may gain privileges']),
    ...(/^0+$/.test(facts.effectiveCapabilities) ? [] : ['holds capabilities']),
    ...(facts.seccompFilters ? [] : ['has no seccomp filter']),
  ];
  if (problems.length > 0)
    throw new OutriderError('SANDBOX_FAILED', `the sandbox ${problems.join(', ')}`);
}

function namespaceOf(pid: number | 'self', name: string): string {
  try {
    return readlinkSync(`/proc/${pid}/ns/${name}`);
  } catch {
    return '';
  }
}
