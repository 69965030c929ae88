/** How strong the wall is, weakest first; a role may demand a minimum (D5). */
export const TIERS = ['namespaces', 'container', 'gvisor'] as const;
export type Tier = (typeof TIERS)[number];

/** What a sandbox may use. Every bound is enforced, and the attestation says how. */
export interface ResourceLimits {
  readonly memoryBytes: number;
  /** Thousandths of a core. */
  readonly cpuMillis: number;
  readonly pids: number;
  /** Of /workspace, /tmp and /output together with /dev/shm, each; memory-backed where the backend uses tmpfs. */
  readonly diskBytes: number;
}

/** The isolation in force, read from outside when the box was made: never what was asked for. */
export interface Attestation {
  readonly backend: string;
  readonly tier: Tier;
  readonly hostUid: number;
  readonly ownNamespaces: readonly string[];
  readonly noNewPrivileges: boolean;
  readonly effectiveCapabilities: string;
  readonly seccompSha256: string;
  /** memory, cpu, pids, disk → cgroup-v2, cgroup-v1, rlimit, tmpfs, engine or none. */
  readonly limitMechanisms: Readonly<Record<string, string>>;
  readonly limits: ResourceLimits;
  readonly imageDigest: string;
  readonly network: string;
}

/** What the runner says of a box that it wants: no path, no user, no command line (D13). */
export interface BoxAsk {
  readonly sandboxId: string;
  readonly limits: ResourceLimits;
  /** One of the backend's `images`; empty for its default. */
  readonly image: string;
}

/** What the launcher adds. */
export interface BoxOptions extends BoxAsk {
  /** Holds the sockets `control` and `egress`; appears read-only as /run/outrider in the box. */
  readonly socketDirectory: string;
  readonly identity: BoxIdentity;
}

/** The host user that the box runs as; never 0. */
export interface BoxIdentity {
  readonly uid: number;
  readonly gid: number;
}

/** How often a limit was hit; zero where the host cannot tell. */
export interface BoxCounters {
  /** Processes that the kernel killed for want of memory. */
  readonly oomKills: number;
  /** Processes and threads that were not made because the box had as many as it may. */
  readonly pidsRefused: number;
}

/** A running box: the agent inside connects to the control socket by itself. */
export interface Box {
  readonly attestation: Attestation;
  /** Limits that a process inside the payload must set for itself, where the host gives no cgroup. */
  readonly rlimits: Readonly<Record<string, number>>;
  /** Resolves when nothing of the box is left: processes reaped, mounts and cgroups gone. Never rejects. */
  readonly ended: Promise<void>;
  /**
   * It is made: from here on it has as much of the processors as any other, where it had less until now. Waits for nothing, and does
   * no harm to a box that is gone.
   */
  settle(): void;
  /** Ends it at once; resolves as `ended`. */
  kill(): Promise<void>;
  /** What the kernel has refused or killed inside the box since it was made. */
  counters(): Promise<BoxCounters>;
  /** The last of what the box's own launcher said on stderr, for the log. */
  diagnostics(): string;
}

/** The backends that there are; a configuration names some of them, and the first is its default. */
export const BACKENDS = ['bubblewrap', 'docker', 'gvisor'] as const;
export type BackendName = (typeof BACKENDS)[number];
/** How strong each is. */
export const TIER_OF: Readonly<Record<BackendName, Tier>> = {
  bubblewrap: 'namespaces',
  docker: 'container',
  gvisor: 'gvisor',
};

/**
 * One way to make boxes. A backend starts a box with two sockets and kills it; everything else is shared (D2). It never
 * falls back to something weaker: what it cannot do it throws as BACKEND_UNAVAILABLE. The launcher's backends take `BoxOptions`;
 * the runner reaches them through the launcher and says no more than a `BoxAsk`.
 */
export interface Backend<Ask extends BoxAsk = BoxOptions> {
  readonly name: BackendName;
  readonly tier: Tier;
  /** Images that boxes may be made of, the first is the default; none where the backend has no images. */
  readonly images: readonly string[];
  /** Whether memory is limited as address space (RLIMIT_AS), for want of control groups. */
  readonly limitsAddressSpace: boolean;
  /**
   * Undefined when boxes can be made here, otherwise what a person must do. Really starts one; asked again within 5 s, or while
   * one is under way, it gives the same answer. Never rejects.
   */
  probe(): Promise<string | undefined>;
  /** @throws {OutriderError} BACKEND_UNAVAILABLE, IMAGE_NOT_ALLOWED, SANDBOX_FAILED */
  start(ask: Ask): Promise<Box>;
}
