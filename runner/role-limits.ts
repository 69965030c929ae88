import { OutriderError } from '#core/errors';
import { type Role, sandboxBounds } from '#policies';
import { type ResourceLimits, TIERS, type Tier } from './backends/backend.ts';

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

/** A role's bounds with everything filled in. */
export interface RoleLimits {
  readonly resources: ResourceLimits;
  readonly minimumTier: Tier;
  readonly profiles: readonly string[];
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
  readonly minimumTier: Tier | undefined;
  readonly resources: ResourceLimits;
}

/** What is made: never more than the role allows. */
export interface SandboxShape {
  readonly profile: string;
  readonly resources: ResourceLimits;
}

/**
 * Holds a request against the role.
 * @throws {OutriderError} PROFILE_UNKNOWN, BACKEND_TOO_WEAK, BACKEND_UNAVAILABLE, INVALID_REQUEST
 */
export function shapeFor(
  limits: RoleLimits,
  ask: SandboxAsk,
  backend: { name: string; tier: Tier },
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
  if (ask.backend !== '' && ask.backend !== backend.name)
    throw new OutriderError(
      'BACKEND_UNAVAILABLE',
      `this runner has no backend "${ask.backend}", only ${backend.name}`,
    );
  for (const wanted of [limits.minimumTier, ask.minimumTier]) {
    if (wanted !== undefined && TIERS.indexOf(backend.tier) < TIERS.indexOf(wanted)) {
      throw new OutriderError(
        'BACKEND_TOO_WEAK',
        `${backend.name} isolates by ${backend.tier}; ${wanted} is demanded`,
      );
    }
  }
  const least = (name: keyof ResourceLimits): number => {
    const [wanted, most] = [ask.resources[name], limits.resources[name]];
    if (wanted > most)
      throw new OutriderError(
        'INVALID_REQUEST',
        `${name} ${wanted} is more than the role's ${most}`,
      );
    return wanted === 0 ? most : wanted;
  };
  return {
    profile,
    resources: {
      memoryBytes: least('memoryBytes'),
      cpuMillis: least('cpuMillis'),
      pids: least('pids'),
      diskBytes: least('diskBytes'),
    },
  };
}
