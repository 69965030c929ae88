import { OutriderError } from '#core/errors';
import { type Role, sandboxBounds } from '#policies';
import type { BackendName, ResourceLimits, Tier } from './backends/backend.ts';
import { chooseBackend, chooseImage, type KnownBackend } from './choose-backend.ts';
import type { Requirement } from './dependencies.ts';
import { assertRunsOn } from './profiles.ts';

/** What a role's sandboxes get where its document says nothing. */
const DEFAULTS = {
  memoryBytes: 512 * 2 ** 20,
  cpus: 1,
  pids: 128,
  diskBytes: 256 * 2 ** 20,
  outputBytes: 2 ** 20,
  concurrent: 8,
  sessions: 10,
  sessionIdleMs: 30 * 60_000,
  sessionMaxMs: 4 * 3_600_000,
} as const;
/** Time for a program whose caller names none. */
const DEFAULT_TIMEOUT_MS = 60_000;

/** With less an interpreter does not start, or so slowly that others wait for it. */
const LEAST: ResourceLimits = {
  memoryBytes: 32 * 2 ** 20,
  cpuMillis: 100,
  pids: 8,
  diskBytes: 65_536,
};

/** A role's bounds with everything filled in. */
export interface RoleLimits {
  readonly resources: ResourceLimits;
  readonly minimumTier: Tier;
  readonly profiles: readonly string[];
  /** Undefined: only the runner's default. */
  readonly images: readonly string[] | undefined;
  readonly outputBytes: number;
  /** The longest that an exec may ask for, and what it gets without asking. */
  readonly timeoutMaxMs: number;
  readonly timeoutDefaultMs: number;
  readonly concurrent: number;
  readonly sessions: number;
  readonly sessionIdleMs: number;
  readonly sessionMaxMs: number;
}

export function roleLimits(role: Role): RoleLimits {
  const bounds = { ...DEFAULTS, ...sandboxBounds(role) };
  const { memoryBytes, cpus, pids, diskBytes, timeoutMs } = bounds;
  return {
    resources: { memoryBytes, cpuMillis: Math.round(cpus * 1000), pids, diskBytes },
    minimumTier: role.spec.sandbox.minimumTier ?? 'namespaces',
    profiles: role.spec.sandbox.profiles ?? ['python'],
    images: role.spec.sandbox.images,
    outputBytes: bounds.outputBytes,
    timeoutMaxMs: timeoutMs,
    timeoutDefaultMs: Math.min(DEFAULT_TIMEOUT_MS, timeoutMs),
    concurrent: bounds.concurrent,
    sessions: bounds.sessions,
    sessionIdleMs: bounds.sessionIdleMs,
    sessionMaxMs: bounds.sessionMaxMs,
  };
}

/** What a caller asks of a sandbox; zero and empty mean "as the role says". */
export interface SandboxAsk {
  readonly profile: string;
  readonly backend: string;
  readonly image: string;
  readonly minimumTier: Tier | undefined;
  readonly resources: ResourceLimits;
  /** Of a sandbox that is kept, in milliseconds. */
  readonly idleMs?: number;
  readonly lifeMs?: number;
  /** Installed before its first program; absent: nothing. */
  readonly dependencies?: readonly Requirement[];
}

export const NOTHING_ASKED: SandboxAsk = {
  profile: '',
  backend: '',
  image: '',
  minimumTier: undefined,
  resources: { memoryBytes: 0, cpuMillis: 0, pids: 0, diskBytes: 0 },
};

/** What is made: never more than the role allows. */
export interface SandboxShape {
  readonly backend: BackendName;
  /** Empty for a backend without images. */
  readonly image: string;
  readonly profile: string;
  readonly resources: ResourceLimits;
}

/**
 * Holds a request against the role.
 * @throws {OutriderError} PROFILE_UNKNOWN, BACKEND_TOO_WEAK, BACKEND_UNAVAILABLE, IMAGE_NOT_ALLOWED, INVALID_REQUEST
 */
export function shapeFor(
  limits: RoleLimits,
  ask: SandboxAsk,
  backends: readonly KnownBackend[],
  known: readonly string[],
): SandboxShape {
  const profile = ask.profile || limits.profiles[0] || '';
  if (!limits.profiles.includes(profile) || !known.includes(profile)) {
    const usable = limits.profiles.filter((name) => known.includes(name));
    throw new OutriderError(
      'PROFILE_UNKNOWN',
      `the profile "${profile}" is not one of ${usable.join(', ') || "this runner's"}`,
    );
  }
  const backend = chooseBackend(backends, ask.backend, [limits.minimumTier, ask.minimumTier]);
  assertRunsOn(profile, backend);
  const least = (name: keyof ResourceLimits): number => {
    const value = within(name, ask.resources[name], limits.resources[name]);
    if (value < LEAST[name])
      throw new OutriderError(
        'INVALID_REQUEST',
        `${name} ${value} is less than a sandbox needs, ${LEAST[name]}`,
      );
    return value;
  };
  return {
    backend: backend.name,
    image: chooseImage(backend, ask.image, limits.images),
    profile,
    resources: {
      memoryBytes: least('memoryBytes'),
      cpuMillis: least('cpuMillis'),
      pids: least('pids'),
      diskBytes: least('diskBytes'),
    },
  };
}

/** How long a sandbox is kept: without an exec, and at all. @throws {OutriderError} INVALID_REQUEST */
export function lifeFor(
  limits: RoleLimits,
  { idleMs = 0, lifeMs = 0 }: Pick<SandboxAsk, 'idleMs' | 'lifeMs'>,
): { idleMs: number; lifeMs: number } {
  return {
    idleMs: within('idle_timeout', idleMs, limits.sessionIdleMs),
    lifeMs: within('max_lifetime', lifeMs, limits.sessionMaxMs),
  };
}

/** What is asked, or the role's where that is 0. @throws {OutriderError} INVALID_REQUEST */
function within(name: string, asked: number, most: number): number {
  if (asked > most)
    throw new OutriderError('INVALID_REQUEST', `${name} ${asked} is more than the role's ${most}`);
  return asked === 0 ? most : asked;
}
