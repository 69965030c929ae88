import { type ChildProcess, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  chmodSync,
  closeSync,
  copyFileSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import type { Readable, Writable } from 'node:stream';
import { OutriderError } from '#core/errors';
import { packageRoot } from '#core/package-root';
import type { CgroupHost } from '../../cgroup.ts';
import type { Backend, Box, BoxIdentity, BoxOptions } from '../backend.ts';
import { bubblewrapArguments, ETC_DIRECTORIES, ETC_FILES, FD } from './arguments.ts';
import { assertIsolated, type ProcessFacts, processFacts } from './attestation.ts';
import { seccompProgram } from './seccomp.ts';

const START_TIMEOUT_MS = 10_000;
const DIAGNOSTICS_MAX = 4096;
const PROBE_LIMITS = { memoryBytes: 256 * 2 ** 20, cpuMillis: 1000, pids: 64, diskBytes: 2 ** 20 };

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
  const files = installFiles(sharedDirectory, program);
  const seccompSha256 = program ? createHash('sha256').update(program).digest('hex') : '';

  async function start(options: BoxOptions): Promise<Box> {
    if (!program)
      throw new OutriderError(
        'BACKEND_UNAVAILABLE',
        `there is no seccomp table for ${process.arch}`,
      );
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
      cgroup?.remove();
    });
    const kill = (): Promise<void> => {
      // The inner process is pid 1 of the box: bubblewrap ends after it, and after everything in its namespace was reaped.
      if (child.exitCode === null && child.signalCode === null) {
        if (!tryKill(hostPid)) child.kill('SIGKILL');
      }
      return ended;
    };
    try {
      hostPid = await childPid(readableAt(child, FD.status), ended, said);
      cgroup?.add(hostPid);
      writableAt(child, FD.block).end('1'); // until here nothing of ours has run inside
      const facts = await settledFacts(hostPid, ended, said);
      assertIsolated(facts);
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
        kill,
        oomKills: () => cgroup?.oomKills() ?? 0,
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
    start,
    probe: sparing(() => probe(start, sharedDirectory, command)),
  };
}

/** The uid that a box gets: for root one of a range, otherwise the runner's own. */
function dropTo({ uid, gid }: BoxIdentity): { uid?: number; gid?: number } {
  return process.getuid?.() === 0 ? { uid, gid } : {};
}

const PROBE_FRESH_MS = 5_000;
let probes = 0;

/** Callers can ask for a probe: however often they do, boxes are started one at a time and not more than every 5 s. */
function sparing(run: () => Promise<string | undefined>): () => Promise<string | undefined> {
  let last: { readonly at: number; readonly answer: Promise<string | undefined> } | undefined;
  return () => {
    if (!last || Date.now() - last.at > PROBE_FRESH_MS) last = { at: Date.now(), answer: run() };
    return last.answer;
  };
}

/** Starts one box for real and waits for its agent to connect. */
async function probe(
  start: Backend['start'],
  sharedDirectory: string,
  command: string,
): Promise<string | undefined> {
  const server = createServer((socket) => socket.on('error', () => {}).destroy());
  let directory: string | undefined;
  let box: Box | undefined;
  try {
    directory = mkdtempSync(join(sharedDirectory, 'probe-'));
    chmodSync(directory, 0o755);
    const path = join(directory, 'control');
    const connected = new Promise<undefined>((resolve) => {
      server.once('connection', () => resolve(undefined));
    });
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen(path, resolve);
    });
    chmodSync(path, 0o666);
    const uid = process.getuid?.() === 0 ? 65534 : (process.getuid?.() ?? 65534);
    box = await start({
      sandboxId: `probe-${process.pid}-${++probes}`,
      socketDirectory: directory,
      identity: { uid, gid: uid },
      limits: PROBE_LIMITS,
    });
    const made = box;
    const silent = made.ended.then(
      () => `the agent did not start: ${made.diagnostics() || 'is /usr/bin/python3 installed?'}`,
    );
    return await within(START_TIMEOUT_MS, 'the agent did not connect in time', [connected, silent]);
  } catch (error) {
    const cause =
      error instanceof OutriderError && error.cause instanceof Error ? error.cause : undefined;
    if (cause && 'code' in cause && cause.code === 'ENOENT')
      return `${command} is not installed: apt-get install bubblewrap`;
    return error instanceof OutriderError
      ? reasonOf(error)
      : 'a sandbox cannot be started: the log says why';
  } finally {
    await box?.kill();
    server.close();
    if (directory !== undefined) rmSync(directory, { recursive: true, force: true });
  }
}

function reasonOf({ message, cause }: OutriderError): string {
  return cause instanceof Error && cause.message !== '' ? `${message}: ${cause.message}` : message;
}

async function within<T>(ms: number, late: T, work: readonly Promise<T>[]): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const timeout = new Promise<T>((resolve) => {
    timer = setTimeout(() => resolve(late), ms);
  });
  try {
    return await Promise.race([...work, timeout]);
  } finally {
    clearTimeout(timer);
  }
}

interface Files {
  readonly agentDirectory: string;
  readonly etcDirectory: string;
  readonly seccomp: string;
}

/** Copies what boxes see to where every uid may read it: the checkout itself may be in a directory only its owner can enter. */
function installFiles(shared: string, program: Buffer | undefined): Files {
  const agentDirectory = join(shared, 'agent');
  const etcDirectory = join(shared, 'etc');
  for (const path of [agentDirectory, etcDirectory]) {
    mkdirSync(path, { recursive: true, mode: 0o755 });
    chmodSync(path, 0o755);
  }
  const agent = join(agentDirectory, 'agent.py');
  copyFileSync(join(packageRoot, 'runner/agent/agent.py'), agent);
  chmodSync(agent, 0o644);
  for (const [name, content] of Object.entries(ETC))
    writeFileSync(join(etcDirectory, name), content, { mode: 0o644 });
  for (const path of ETC_DIRECTORIES)
    mkdirSync(join(etcDirectory, path), { recursive: true, mode: 0o755 });
  for (const path of ETC_FILES) writeFileSync(join(etcDirectory, path), '', { mode: 0o644 });
  const seccomp = join(shared, 'seccomp.bpf');
  writeFileSync(seccomp, program ?? '', { mode: 0o644 });
  return { agentDirectory, etcDirectory, seccomp };
}

/** The box's own /etc: one user, no resolver, names for itself only. */
const ETC = {
  passwd:
    'root:x:0:0:root:/:/usr/sbin/nologin\nsandbox:x:1000:1000:sandbox:/workspace:/bin/sh\nnobody:x:65534:65534:nobody:/:/usr/sbin/nologin\n',
  group: 'root:x:0:\nsandbox:x:1000:\nnogroup:x:65534:\n',
  hosts: '127.0.0.1 localhost sandbox\n::1 localhost\n',
  'nsswitch.conf': 'passwd: files\ngroup: files\nhosts: files dns\n',
  'resolv.conf': '# No resolver: names travel inside proxied requests only.\n',
  hostname: 'sandbox\n',
} as const;

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

function tryKill(pid: number | undefined): boolean {
  if (pid === undefined) return false;
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
