import { existsSync, lstatSync, readdirSync, readlinkSync } from 'node:fs';
import type { BoxIdentity, ResourceLimits } from '../backend.ts';

/** The user inside every box, whatever the host's uid is. */
const INSIDE_UID = 1000;

/** File descriptors that bubblewrap is given besides 0 to 2. */
export const FD = { status: 3, block: 4, seccomp: 5 } as const;

/**
 * Public parts of the host's /etc that programs expect; private keys stand beside some of them, so no more than these. Debian's Java has
 * its own configuration there, without which it does not start.
 */
export const ETC_DIRECTORIES: readonly string[] = [
  'ssl/certs',
  'alternatives',
  ...readdirSync('/etc').filter((name) => /^java-\d+-openjdk$/.test(name)),
];
export const ETC_FILES = ['ssl/openssl.cnf', 'mime.types', 'matplotlibrc'] as const;

export interface BubblewrapInput {
  readonly agentDirectory: string;
  readonly etcDirectory: string;
  /** Holds `node`; appears as /opt/node/bin. */
  readonly nodeDirectory: string;
  readonly socketDirectory: string;
  readonly identity: BoxIdentity;
  readonly limits: ResourceLimits;
}

/**
 * The command line of one box (D1, D4): own namespaces of every kind, a root that holds only what is named here, nothing
 * writable but sized tmpfs, no environment, no capability, a seccomp program, and the agent as pid 1.
 */
export function bubblewrapArguments(input: BubblewrapInput): string[] {
  const { agentDirectory, etcDirectory, nodeDirectory, socketDirectory, limits } = input;
  const size = String(limits.diskBytes);
  const tmpfs = (path: string) => ['--size', size, '--tmpfs', path];
  return [
    '--unshare-all',
    '--unshare-user',
    '--die-with-parent',
    '--new-session', // the caller's terminal cannot be typed into (TIOCSTI)
    '--as-pid-1', // the agent cannot be killed from inside, and its end is everybody's
    ['--uid', String(INSIDE_UID), '--gid', String(INSIDE_UID)],
    ['--hostname', 'sandbox'],
    ['--cap-drop', 'ALL'],
    '--clearenv',
    hostSystem(),
    ['--ro-bind', nodeDirectory, '/opt/node/bin'],
    ['--ro-bind', etcDirectory, '/etc'],
    ...[...ETC_DIRECTORIES, ...ETC_FILES].map((path) => [
      '--ro-bind-try',
      `/etc/${path}`,
      `/etc/${path}`,
    ]),
    ['--proc', '/proc'],
    ['--dev', '/dev', ...tmpfs('/dev/shm'), '--remount-ro', '/dev'],
    tmpfs('/tmp'),
    tmpfs('/workspace'),
    tmpfs('/output'),
    ['--ro-bind', agentDirectory, '/run/agent'],
    ['--ro-bind', socketDirectory, '/run/outrider'],
    ['--remount-ro', '/'],
    ['--chdir', '/workspace'],
    [
      '--json-status-fd',
      String(FD.status),
      '--block-fd',
      String(FD.block),
      '--seccomp',
      String(FD.seccomp),
    ],
    ['--', '/usr/bin/python3', '-I', '-S', '/run/agent/agent.py'],
  ].flat();
}

/** /usr, and the top-level directories as the host has them: links into /usr, or directories of their own on older systems. */
function hostSystem(): string[] {
  const top = ['/bin', '/sbin', '/lib', '/lib64', '/lib32', '/libx32'].flatMap((path) => {
    if (!existsSync(path)) return [];
    return lstatSync(path).isSymbolicLink()
      ? ['--symlink', readlinkSync(path), path]
      : ['--ro-bind', path, path];
  });
  return ['--ro-bind', '/usr', '/usr', ...top];
}
