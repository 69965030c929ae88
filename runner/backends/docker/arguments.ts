import type { ContainerCreateOptions, HostConfig } from 'dockerode';
import { AGENT_DIRECTORY } from '../agent-files.ts';
import type { BoxIdentity, ResourceLimits } from '../backend.ts';

/** Labels by which containers are found again. */
export const LABEL = { owner: 'outrider.owner', sandbox: 'outrider.sandbox' } as const;

export interface ContainerInput {
  readonly image: string;
  /** Which runner's it is. */
  readonly owner: string;
  readonly sandboxId: string;
  /** The engine's runtime; undefined for its default, runc. */
  readonly runtime: string | undefined;
  readonly agentDirectory: string;
  /** An empty resolver configuration: the engine would copy the host's. */
  readonly resolver: string;
  readonly socketDirectory: string;
  readonly identity: BoxIdentity;
  readonly limits: ResourceLimits;
  /** Processes and threads of the host that the container may have. */
  readonly hostPids: number;
  /** Whether the box's kernel is not the host's: it counts processes itself, and its root has no power outside. */
  readonly ownKernel: boolean;
  /** Where the runtime takes one. */
  readonly seccomp: string | undefined;
}

/** The types of dockerode do not know the mode of cgroup namespaces, which the engine has since 20.10. */
type Options = ContainerCreateOptions & {
  readonly HostConfig: HostConfig & { readonly CgroupnsMode: 'private' };
};

/**
 * What an agent that is root of the box's own kernel keeps: to make payloads the box's user's, to end them, and to see to it that
 * they inherit none of this.
 */
const AGENT_CAPABILITIES = ['SETUID', 'SETGID', 'SETPCAP', 'KILL'];

/**
 * One box as a container (D1, D4): no network, no capability, a root that cannot be written, nothing writable but sized memory
 * file systems, and the agent as its first process, as the box's own user. Where the box has a kernel of its own, which does not hide
 * processes of one user from each other, the agent is root of that and payloads alone are the box's user. Removed by the engine when
 * it ends.
 */
export function containerOptions(input: ContainerInput): Options {
  const { identity, limits } = input;
  const user = `uid=${identity.uid},gid=${identity.gid}`;
  const tmpfs = `rw,nosuid,nodev,exec,size=${limits.diskBytes},mode=755,${user}`;
  return {
    Image: input.image,
    User: `${input.ownKernel ? 0 : identity.uid}:${identity.gid}`,
    Entrypoint: ['/usr/bin/python3', '-I', '-S', `${AGENT_DIRECTORY}/agent.py`],
    Cmd: input.ownKernel ? [String(identity.uid)] : [],
    WorkingDir: '/workspace',
    Hostname: 'sandbox',
    Labels: { [LABEL.owner]: input.owner, [LABEL.sandbox]: input.sandboxId },
    HostConfig: {
      AutoRemove: true,
      NetworkMode: 'none', // a network namespace with nothing but a loopback
      IpcMode: 'private',
      CgroupnsMode: 'private',
      CapDrop: ['ALL'],
      ...(input.ownKernel ? { CapAdd: AGENT_CAPABILITIES } : {}),
      SecurityOpt: [
        'no-new-privileges',
        ...(input.seccomp === undefined ? [] : [`seccomp=${input.seccomp}`]),
      ],
      ReadonlyRootfs: true,
      ...(input.runtime === undefined ? {} : { Runtime: input.runtime }),
      Memory: limits.memoryBytes,
      MemorySwap: limits.memoryBytes, // together, so that there is no swap
      NanoCpus: limits.cpuMillis * 1_000_000,
      PidsLimit: input.hostPids,
      Ulimits: [
        { Name: 'core', Soft: 0, Hard: 0 },
        { Name: 'nofile', Soft: 4_096, Hard: 4_096 },
        ...(input.ownKernel ? [{ Name: 'nproc', Soft: limits.pids, Hard: limits.pids }] : []),
      ],
      ShmSize: limits.diskBytes,
      Tmpfs: { '/tmp': tmpfs, '/workspace': tmpfs, '/output': tmpfs },
      Binds: [
        `${input.socketDirectory}:/run/outrider:ro`,
        `${input.agentDirectory}:${AGENT_DIRECTORY}:ro`,
        `${input.resolver}:/etc/resolv.conf:ro`,
      ],
      LogConfig: { Type: 'none', Config: {} },
    },
  };
}
