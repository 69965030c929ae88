import { OutriderError, toOutriderError } from '#core/errors';
import type { Role } from '#policies';
import type { PolicyInForce } from '#policystore';
import type { KnownBackend } from './choose-backend.ts';
import type { RunnerMetrics } from './metrics.ts';
import type { WarmPool } from './pool.ts';
import { PROFILES } from './profiles.ts';
import { Quota } from './quota.ts';
import {
  lifeFor,
  type RoleLimits,
  type SandboxAsk,
  type SandboxShape,
  shapeFor,
} from './role-limits.ts';
import type { Sandbox } from './sandbox.ts';
import type { Kept, Sessions } from './sessions.ts';

/** Where an exec runs. */
export type Target =
  | { readonly kind: 'fresh'; readonly ask: SandboxAsk }
  | { readonly kind: 'sandbox'; readonly id: string }
  | {
      readonly kind: 'session';
      readonly name: string;
      readonly ask: SandboxAsk;
      readonly mustExist: boolean;
    };

/** The sandbox that one exec has for itself until it leaves it. */
export interface Place {
  readonly sandbox: Sandbox;
  readonly warm: boolean;
  /** Nothing has run in it yet. */
  readonly fresh: boolean;
  readonly kept: Kept | undefined;
}

export interface PlacesDeps {
  /** As last looked at. */
  readonly backends: () => readonly KnownBackend[];
  readonly pool: WarmPool;
  readonly metrics: RunnerMetrics;
  readonly sessions: Sessions;
  /** Execs at one time, of everybody. */
  readonly capacity: number;
  /** The memory limits of all sandboxes in use, together; 0 for no bound. */
  readonly memoryBytes: number;
}

/** Who may run something now, and in which sandbox: quotas, fresh sandboxes and sessions. */
export class Places {
  readonly #deps: PlacesDeps;
  readonly quota: Quota;
  /** Sandboxes to be kept whose claim is under way: their names are taken and they count. */
  readonly #making = new Set<{ owner: string; name: string; role: string }>();
  #unusable: Readonly<Record<string, string>> = {};
  /** Nothing new is placed. */
  closed = false;

  constructor(deps: PlacesDeps) {
    this.#deps = deps;
    const { capacity, memoryBytes, metrics } = deps;
    this.quota = new Quota({
      capacity,
      memoryBytes,
      onRunning: (running) => metrics.running.set(running),
    });
  }

  /** Execs that have a place, or wait for one. */
  get running(): number {
    return this.quota.running;
  }

  /** Keeps warm what fresh sandboxes of these roles need, one shape for each of their profiles, and nothing else. */
  warm(roles: readonly RoleLimits[], ask: SandboxAsk): void {
    const unusable: Record<string, string> = {};
    const shapes = roles.flatMap((limits) =>
      limits.profiles.flatMap((profile) => {
        try {
          return [shapeFor(limits, { ...ask, profile }, this.#deps.backends(), KNOWN)];
        } catch (error) {
          unusable[profile] = toOutriderError(error).message; // a caller who asks for it is told the same
          return [];
        }
      }),
    );
    this.#unusable = unusable;
    this.#deps.pool.keep(shapes);
  }

  /** The sandbox that a target names, where there is one already. @throws {OutriderError} SANDBOX_NOT_FOUND */
  kept(owner: string, target: Target): Kept | undefined {
    if (target.kind === 'fresh') return undefined;
    const { sessions } = this.#deps;
    return target.kind === 'sandbox'
      ? sessions.byId(owner, target.id)
      : sessions.byName(owner, target.name);
  }

  /** The profiles of roles that fresh sandboxes cannot be had of here, with what a person should know. */
  get unusableProfiles(): Readonly<Record<string, string>> {
    return { ...this.#deps.pool.problems, ...this.#unusable };
  }

  /** The profile of the sandbox that a target names; where there is none yet, the one that it asks for, or the role's first. */
  profileOf(owner: string, target: Target, limits: RoleLimits): string {
    const { sessions } = this.#deps;
    if (target.kind === 'sandbox')
      return sessions.byId(owner, target.id)?.sandbox.shape.profile ?? limits.profiles[0] ?? '';
    const kept = target.kind === 'session' ? sessions.byName(owner, target.name) : undefined;
    return kept?.sandbox.shape.profile ?? (target.ask.profile || (limits.profiles[0] ?? ''));
  }

  /** A place for one exec of this owner until the function returned is called. @throws {OutriderError} QUOTA_EXCEEDED, RUNNER_BUSY */
  reserve(owner: string, limits: RoleLimits): () => void {
    return this.quota.reserve(owner, limits.concurrent);
  }

  /** Takes the sandbox that the target names. @throws {OutriderError} SESSION_NOT_FOUND, SESSION_BUSY, ROLE_DENIED and what `keep` throws */
  async take(
    owner: string,
    role: Role,
    limits: RoleLimits,
    target: Target,
    policy: PolicyInForce,
  ): Promise<Place> {
    if (target.kind === 'fresh')
      return this.#claim(shapeFor(limits, target.ask, this.#deps.backends(), KNOWN));
    const kept =
      target.kind === 'sandbox'
        ? this.#deps.sessions.byId(owner, target.id)
        : this.#deps.sessions.byName(owner, target.name);
    if (!kept) {
      if (target.kind === 'sandbox' || target.mustExist)
        throw new OutriderError('SESSION_NOT_FOUND', 'there is no such session');
      const made = await this.keep(owner, target.name, role, limits, target.ask, policy);
      made.kept.busy = true;
      return { sandbox: made.kept.sandbox, warm: made.warm, fresh: true, kept: made.kept };
    }
    if (kept.role !== role.metadata.name)
      throw new OutriderError('ROLE_DENIED', `the session belongs to the role ${kept.role}`);
    if (kept.busy)
      throw new OutriderError('SESSION_BUSY', 'another program runs in this session', {
        retryAfterMs: 1_000,
      });
    kept.busy = true;
    try {
      await kept.sandbox.link.ready();
    } catch (error) {
      kept.busy = false;
      throw error;
    }
    return { sandbox: kept.sandbox, warm: true, fresh: false, kept };
  }

  /** Makes a sandbox that outlives its execs. @throws {OutriderError} QUOTA_EXCEEDED, SESSION_BUSY, DRAINING and what the pool throws */
  async keep(
    owner: string,
    name: string,
    role: Role,
    limits: RoleLimits,
    ask: SandboxAsk,
    policy: PolicyInForce,
  ): Promise<{ kept: Kept; warm: boolean }> {
    const mine = [...this.#making].filter((making) => making.owner === owner);
    if (name !== '' && mine.some((making) => making.name === name))
      throw new OutriderError('SESSION_BUSY', 'the session is being made', { retryAfterMs: 1_000 });
    const coming = mine.filter((making) => making.role === role.metadata.name).length;
    if (this.#deps.sessions.count(owner, role.metadata.name) + coming >= limits.sessions)
      throw new OutriderError(
        'QUOTA_EXCEEDED',
        `you keep ${limits.sessions} sandboxes already: delete one`,
      );
    const shape = shapeFor(limits, ask, this.#deps.backends(), KNOWN);
    const { idleMs, lifeMs } = lifeFor(limits, ask);
    const making = { owner, name, role: role.metadata.name };
    this.#making.add(making);
    const { sandbox, warm } = await this.#claim(shape).finally(() => this.#making.delete(making));
    const now = Date.now();
    const kept: Kept = {
      sandbox,
      owner,
      name,
      role: role.metadata.name,
      policyDigest: policy.digest,
      policyRevision: policy.revision,
      createdAt: now,
      lastUsedAt: now,
      expiresAt: now + lifeMs,
      idleMs,
      busy: false,
      running: undefined,
    };
    this.#deps.sessions.add(kept);
    return { kept, warm };
  }

  /** Gives a place back: a kept sandbox to its owner's next exec, any other ends. Resolves when that is done. */
  async leave({ sandbox, kept }: Place): Promise<void> {
    if (kept && sandbox.alive) {
      kept.busy = false;
      kept.running = undefined;
      kept.lastUsedAt = Date.now();
      sandbox.link.prepare();
      return;
    }
    if (!kept) this.#deps.metrics.sandboxes.dec();
    await sandbox.end();
  }

  async #claim(shape: SandboxShape): Promise<Place> {
    const free = this.quota.memory(shape.resources.memoryBytes);
    const { sandbox, warm } = await this.#deps.pool.claim(shape).catch((error: unknown) => {
      free();
      throw error;
    });
    void sandbox.ended.then(free);
    if (this.closed) {
      await sandbox.end();
      throw new OutriderError('DRAINING', 'the runner is stopping');
    }
    this.#deps.metrics.claims.inc({ warm: String(warm) });
    this.#deps.metrics.sandboxes.inc();
    return { sandbox, warm, fresh: true, kept: undefined };
  }
}

const KNOWN = PROFILES.map((profile) => profile.name);
