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

export interface BoxOptions {
  readonly sandboxId: string;
  /** Holds the sockets `control` and `egress`; appears read-only as /run/outrider in the box. */
  readonly socketDirectory: string;
  readonly identity: BoxIdentity;
  readonly limits: ResourceLimits;
}

/** The host user that the box runs as; never 0. */
export interface BoxIdentity {
  readonly uid: number;
  readonly gid: number;
}

/** A running box: the agent inside connects to the control socket by itself. */
export interface Box {
  readonly attestation: Attestation;
  /** Limits that a process inside the payload must set for itself, where the host gives no cgroup. */
  readonly rlimits: Readonly<Record<string, number>>;
  /** Resolves when nothing of the box is left: processes reaped, mounts and cgroups gone. Never rejects. */
  readonly ended: Promise<void>;
  /** Ends it at once; resolves as `ended`. */
  kill(): Promise<void>;
  /** How often the kernel has killed for want of memory inside the box. */
  oomKills(): number;
  /** The last of what the box's own launcher said on stderr, for the log. */
  diagnostics(): string;
}

/**
 * One way to make boxes. A backend starts a box with two sockets and kills it; everything else is shared (D2). It never
 * falls back to something weaker: what it cannot do it throws as BACKEND_UNAVAILABLE.
 */
export interface Backend {
  readonly name: string;
  readonly tier: Tier;
  /**
   * Undefined when boxes can be made here, otherwise what a person must do. Really starts one; asked again within 5 s, or while
   * one is under way, it gives the same answer. Never rejects.
   */
  probe(): Promise<string | undefined>;
  /** @throws {OutriderError} BACKEND_UNAVAILABLE, SANDBOX_FAILED */
  start(options: BoxOptions): Promise<Box>;
}
