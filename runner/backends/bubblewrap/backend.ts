import { type ChildProcess, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { closeSync, openSync } from 'node:fs';
import type { Readable, Writable } from 'node:stream';
import { OutriderError } from '#core/errors';
import type { Cgroup, CgroupHost } from '../../cgroup.ts';
import type { Backend, Box, BoxCounters, BoxIdentity, BoxOptions } from '../backend.ts';
import { createProbe } from '../probe.ts';
import { assertIsolated, type ProcessFacts, processFacts } from '../process-facts.ts';
import { bubblewrapArguments, FD } from './arguments.ts';
import { installFiles } from './files.ts';
import { nodeDirectory } from './node-directory.ts';
import { seccompProgram } from './seccomp.ts';
import { killStarting } from './strays.ts';

/** Only against hanging: a box that ends is noticed at once. */
const START_TIMEOUT_MS = 60_000;
const DIAGNOSTICS_MAX = 4096;
/** Without every one of these a box is no box. */
const PROMISED = { namespaces: ['user', 'pid', 'mnt', 'net', 'ipc', 'uts'] } as const;

export interface BubblewrapDeps {
  /** Files that boxes see, made here: must be enterable by every box's uid, writable by none. */
  readonly sharedDirectory: string;
  readonly cgroups: CgroupHost | undefined;
  readonly command: string;
}

/**
 * Boxes by bubblewrap: namespaces and seccomp, kernel shared. The command is started as the box's unprivileged uid, never as
 * root: as root, bubblewrap lets the payload write host sysctls (D4).
 */
export function createBubblewrapBackend({
  sharedDirectory,
  cgroups,
  command,
}: BubblewrapDeps): Backend {
  const program = seccompProgram(process.arch);
  const files = {
    ...installFiles(sharedDirectory, program),
    nodeDirectory: nodeDirectory(process.getuid?.() === 0),
  };
  const seccompSha256 = program ? createHash('sha256').update(program).digest('hex') : '';

  async function start(options: BoxOptions): Promise<Box> {
    if (!program)
      throw new OutriderError(
        'BACKEND_UNAVAILABLE',
        `there is no seccomp table for ${process.arch}`,
      );
    if (options.image !== '')
      throw new OutriderError('IMAGE_NOT_ALLOWED', 'bubblewrap has no images');
    if (options.identity.uid === 0)
      throw new OutriderError('BACKEND_UNAVAILABLE', 'a sandbox must not run as root');
    const cgroup = cgroups?.create(options.sandboxId, options.limits);
    const seccompFd = openSync(files.seccomp, 'r');
    let child: ChildProcess;
    try {
      child = spawn(command, bubblewrapArguments({ ...files, ...options }), {
        cwd: '/',
        env: {},
        stdio: ['ignore', 'ignore', 'pipe', 'pipe', 'pipe', seccompFd],
        ...dropTo(options.identity),
      });
    } catch (error) {
      cgroup?.remove();
      throw new OutriderError('SANDBOX_FAILED', 'the sandbox could not be started', {
        cause: error,
      });
    } finally {
      closeSync(seccompFd);
    }
    const said = collectTail(child.stderr);
    /** Asked for also when the group is gone: the end of a box may be what its memory limit did. */
    let last: BoxCounters | undefined;
    let hostPid: number | undefined;
    let notStarted: Error | undefined;
    const ended = new Promise<void>((resolve) => {
      child.once('error', (error) => {
        notStarted = error;
        resolve();
      });
      child.once('exit', () => resolve());
    }).then(() => {
      child.stdio[FD.status]?.destroy();
      child.stdio[FD.block]?.destroy();
      last = counted(cgroup);
      cgroup?.remove();
    });
    const kill = (): Promise<void> => {
      // The inner process is pid 1 of the box: bubblewrap ends after it, and after everything in its namespace was reaped.
      if (child.exitCode === null && child.signalCode === null) {
        if (hostPid !== undefined && tryKill(hostPid)) return ended;
        if (child.pid !== undefined) killStarting(child.pid);
      }
      return ended;
    };
    try {
      hostPid = await childPid(readableAt(child, FD.status), ended, said);
      await cgroup?.add(hostPid);
      writableAt(child, FD.block).end('1'); // until here nothing of ours has run inside
      const facts = await settledFacts(hostPid, ended, said);
      assertIsolated(facts, PROMISED);
      return {
        attestation: {
          backend: 'bubblewrap',
          tier: 'namespaces',
          ...pick(facts),
          seccompSha256,
          limitMechanisms: {
            memory: cgroup?.mechanism ?? 'rlimit',
            pids: cgroup?.mechanism ?? 'rlimit',
            cpu: cgroup?.limitsCpu ? cgroup.mechanism : 'none',
            disk: 'tmpfs',
          },
          limits: options.limits,
          imageDigest: '',
          network: 'own-netns',
        },
        rlimits: cgroup ? {} : { AS: options.limits.memoryBytes, NPROC: options.limits.pids },
        ended,
        settle: () => settleIn(cgroup),
        kill,
        counters: () => Promise.resolve(last ?? counted(cgroup)),
        diagnostics: said,
      };
    } catch (error) {
      await kill();
      if (notStarted)
        throw new OutriderError('SANDBOX_FAILED', 'the sandbox could not be started', {
          cause: notStarted,
        });
      throw error;
    }
  }

  return {
    name: 'bubblewrap',
    tier: 'namespaces',
    images: [],
    limitsAddressSpace: cgroups === undefined,
    start,
    probe: createProbe({
      start,
      directory: sharedDirectory,
      explain: (cause) =>
        cause instanceof Error && 'code' in cause && cause.code === 'ENOENT'
          ? `${command} is not installed: apt-get install bubblewrap`
          : undefined,
    }),
  };
}

/** Safe when the group is gone. */
function settleIn(cgroup: Cgroup | undefined): void {
  try {
    cgroup?.settle();
  } catch {
    // The box has ended meanwhile.
  }
}

function counted(cgroup: Cgroup | undefined): BoxCounters {
  return { oomKills: cgroup?.oomKills() ?? 0, pidsRefused: cgroup?.pidsRefused() ?? 0 };
}

/** The uid that a box gets: for root one of a range, otherwise the runner's own. */
function dropTo({ uid, gid }: BoxIdentity): { uid?: number; gid?: number } {
  return process.getuid?.() === 0 ? { uid, gid } : {};
}

/** Bubblewrap names the host pid of the box's first process on the status descriptor. */
async function childPid(
  status: Readable,
  ended: Promise<void>,
  said: () => string,
): Promise<number> {
  const line = new Promise<number>((resolve) => {
    let text = '';
    status.on('data', (chunk: Buffer) => {
      text += chunk.toString('utf8');
      const pid = /"child-pid"\s*:\s*(\d+)/.exec(text)?.[1];
      if (pid) resolve(Number(pid));
    });
  });
  return before(line, ended, said);
}

/** The facts once bubblewrap has finished with itself: its last step before the agent is the seccomp filter. */
async function settledFacts(
  pid: number,
  ended: Promise<void>,
  said: () => string,
): Promise<ProcessFacts> {
  const settle = async (): Promise<ProcessFacts> => {
    for (let tries = 0; ; tries++) {
      const facts = processFacts(pid);
      if (facts.seccompFilters || tries >= 2_000) return facts;
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
  };
  return before(settle(), ended, said);
}

async function before<T>(work: Promise<T>, ended: Promise<void>, said: () => string): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(
      () =>
        reject(
          new OutriderError('SANDBOX_FAILED', 'the sandbox did not start in time', {
            cause: said(),
          }),
        ),
      START_TIMEOUT_MS,
    );
  });
  const gone = ended.then((): never => {
    throw new OutriderError('SANDBOX_FAILED', 'the sandbox could not be started', {
      cause: new Error(said() || 'bubblewrap ended'),
    });
  });
  try {
    return await Promise.race([work, late, gone]);
  } finally {
    clearTimeout(timer);
    gone.catch(() => {});
    work.catch(() => {});
  }
}

function collectTail(stream: Readable | null): () => string {
  let text = '';
  stream?.on('data', (chunk: Buffer) => {
    text = (text + chunk.toString('utf8')).slice(-DIAGNOSTICS_MAX);
  });
  return () => text.trim();
}

function tryKill(pid: number): boolean {
  try {
    process.kill(pid, 'SIGKILL');
    return true;
  } catch {
    return false;
  }
}

function pick({ hostUid, ownNamespaces, noNewPrivileges, effectiveCapabilities }: ProcessFacts) {
  return { hostUid, ownNamespaces, noNewPrivileges, effectiveCapabilities };
}

function readableAt(child: ChildProcess, fd: number): Readable {
  const stream = child.stdio[fd];
  if (!stream || !('read' in stream))
    throw new OutriderError('SANDBOX_FAILED', 'the sandbox could not be started');
  return stream;
}

function writableAt(child: ChildProcess, fd: number): Writable {
  const stream = child.stdio[fd];
  if (!stream || !('write' in stream))
    throw new OutriderError('SANDBOX_FAILED', 'the sandbox could not be started');
  return stream;
}
