import { createHash } from 'node:crypto';
import { mkdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { OutriderError } from '#core/errors';
import { cgroupOf, type ForeignCgroup } from '../../cgroup.ts';
import { installAgent } from '../agent-files.ts';
import {
  type Attestation,
  type Backend,
  type Box,
  type BoxCounters,
  type BoxOptions,
  TIER_OF,
} from '../backend.ts';
import { createProbe } from '../probe.ts';
import {
  assertIsolated,
  type ProcessFacts,
  type Promised,
  processFacts,
} from '../process-facts.ts';
import { containerOptions } from './arguments.ts';
import type { Engine, Running } from './engine.ts';
import { seccompProfile } from './seccomp.ts';

export interface DockerDeps {
  readonly name: 'docker' | 'gvisor';
  readonly engine: Engine;
  /** The engine's name for gVisor; undefined for its default runtime. */
  readonly runtime: string | undefined;
  /** Which images boxes may be made of; the first is the default. */
  readonly images: readonly string[];
  /** Files that boxes see, made here: must be enterable by every box's user, writable by none. */
  readonly sharedDirectory: string;
}

interface Kind {
  readonly ownKernel: boolean;
  readonly promised: Promised;
  readonly hostPids: (pids: number) => number;
}

/** What is the same of every box, and what the kernel must say of its first process. */
const KINDS = {
  docker: {
    ownKernel: false,
    promised: { namespaces: ['pid', 'mnt', 'net', 'ipc', 'uts'] },
    hostPids: (pids: number) => pids,
  },
  gvisor: {
    ownKernel: true,
    // The process is gVisor's kernel: CAP_SYS_CHROOT and CAP_SYS_ADMIN, in a user namespace of its own, with which it shuts itself in.
    promised: { namespaces: ['user', 'mnt', 'net', 'ipc', 'uts'], capabilities: '240000' },
    // gVisor needs threads of the host for its own work and several for each process that it runs.
    hostPids: (pids: number) => 512 + 16 * pids,
  },
} as const satisfies Record<string, Kind>;

/**
 * Boxes as containers of a Docker engine: with its own runtime, the kernel shared, or with gVisor's, each with a kernel in user
 * space. The image comes from an allowlist and is never pulled.
 */
export function createDockerBackend(deps: DockerDeps): Backend {
  const { name, engine, runtime, images, sharedDirectory } = deps;
  const kind = KINDS[name];
  const seccomp = name === 'docker' ? seccompProfile(process.arch) : undefined;
  const seccompSha256 = seccomp ? createHash('sha256').update(seccomp).digest('hex') : '';
  const agentDirectory = installAgent(sharedDirectory);
  const resolver = join(sharedDirectory, 'etc', 'resolv.conf'); // the same file as bubblewrap's, where both are used
  mkdirSync(dirname(resolver), { recursive: true, mode: 0o755 });
  writeFileSync(resolver, '# No resolver: names travel inside proxied requests only.\n', {
    mode: 0o644,
  });

  async function start(options: BoxOptions): Promise<Box> {
    const image = allowed(images, options.image);
    if (options.identity.uid === 0)
      throw new OutriderError('BACKEND_UNAVAILABLE', 'a sandbox must not run as root');
    if (name === 'docker' && !seccomp)
      throw new OutriderError(
        'BACKEND_UNAVAILABLE',
        `there are no seccomp rules for ${process.arch}`,
      );
    const container = await engine.start(
      containerOptions({
        ...options,
        image,
        owner: engine.owner,
        runtime,
        agentDirectory,
        resolver,
        hostPids: kind.hostPids(options.limits.pids),
        ownKernel: kind.ownKernel,
        seccomp,
      }),
    );
    let status: number | undefined;
    const ended = container.gone.then((code) => {
      status = code;
    });
    try {
      const facts = factsOf(container);
      assertIsolated(facts, kind.promised);
      const groups = cgroupOf(container.pid);
      assertLimited(groups, options, kind);
      if (container.runtime !== (runtime ?? container.runtime))
        throw new OutriderError('SANDBOX_FAILED', 'the engine used another runtime');
      return {
        attestation: {
          backend: name,
          tier: TIER_OF[name],
          ...pick(facts),
          seccompSha256,
          limitMechanisms: mechanisms(groups, kind),
          limits: options.limits,
          imageDigest: container.image,
          network: 'own-netns',
        },
        rlimits: {},
        ended,
        settle() {}, // what making it costs is the engine's, which is in no group of ours
        kill: async () => {
          await container.kill();
          await ended;
        },
        counters: countersOf(container, groups),
        diagnostics: () =>
          status === undefined ? '' : `the container ended with status ${status}`,
      };
    } catch (error) {
      await container.kill();
      await ended;
      throw error;
    }
  }

  return {
    name,
    tier: TIER_OF[name],
    limitsAddressSpace: false,
    images,
    start,
    probe: createProbe({ start, directory: sharedDirectory, explain: () => undefined }),
  };
}

/** @throws {OutriderError} IMAGE_NOT_ALLOWED */
function allowed(images: readonly string[], asked: string): string {
  const image = asked === '' ? images[0] : images.find((candidate) => candidate === asked);
  if (image === undefined)
    throw new OutriderError('IMAGE_NOT_ALLOWED', `the image "${asked}" is not in the allowlist`);
  return image;
}

/** @throws {OutriderError} SANDBOX_FAILED where it has ended already */
function factsOf({ pid }: Running): ProcessFacts {
  try {
    return processFacts(pid);
  } catch (error) {
    throw new OutriderError('SANDBOX_FAILED', 'the container ended at once', { cause: error });
  }
}

/** Refuses a box whose groups have wider limits than were asked for. @throws {OutriderError} SANDBOX_FAILED */
function assertLimited(
  groups: ForeignCgroup | undefined,
  { limits }: BoxOptions,
  kind: Kind,
): void {
  const page = 4_096; // the kernel rounds memory down to whole pages
  if (groups && groups.memoryBytes > limits.memoryBytes + page)
    throw new OutriderError('SANDBOX_FAILED', 'the engine does not hold the sandbox to its memory');
  if (groups && groups.pids > kind.hostPids(limits.pids))
    throw new OutriderError('SANDBOX_FAILED', 'the engine does not hold the sandbox to its pids');
}

/** A kernel of its own counts processes itself; the engine's limit is for that kernel's threads. */
function mechanisms(
  groups: ForeignCgroup | undefined,
  { ownKernel }: Kind,
): Attestation['limitMechanisms'] {
  const mechanism = groups?.mechanism ?? 'engine';
  return {
    memory: mechanism,
    pids: ownKernel ? 'rlimit' : mechanism,
    cpu: groups?.cpuMillis === Infinity ? 'none' : mechanism,
    disk: 'tmpfs',
  };
}

/** The last that was read stays when the groups are gone; the engine's own word counts too. */
function countersOf(container: Running, groups: ForeignCgroup | undefined): Box['counters'] {
  let last: BoxCounters = { oomKills: 0, pidsRefused: 0 };
  return () => {
    const now = groups?.counters() ?? last;
    last = {
      oomKills: Math.max(last.oomKills, now.oomKills, container.outOfMemory()),
      pidsRefused: Math.max(last.pidsRefused, now.pidsRefused),
    };
    return Promise.resolve(last);
  };
}

function pick({ hostUid, ownNamespaces, noNewPrivileges, effectiveCapabilities }: ProcessFacts) {
  return { hostUid, ownNamespaces, noNewPrivileges, effectiveCapabilities };
}
