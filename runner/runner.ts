import type { AuditChain } from '#core/audit';
import { OutriderError, toOutriderError } from '#core/errors';
import { newId } from '#core/ids';
import type { Logger } from '#core/log';
import { principalKey } from '#core/principal';
import type { ExecutionSigner } from '#core/tokens';
import { canonicalJson, chooseRole, projectRole, type Role } from '#policies';
import type { LoadedPolicy } from '#policystore';
import type { Attestation, Backend } from './backends/backend.ts';
import type { Caller } from './callers.ts';
import { type Ending, Exec, type ExecEvent, NO_EGRESS } from './exec.ts';
import { FRAME_MAX_BYTES } from './frames.ts';
import type { RunnerMetrics } from './metrics.ts';
import type { WarmPool } from './pool.ts';
import { PROFILES, type Program, programOrder, sandboxEnvironment } from './profiles.ts';
import {
  type RoleLimits,
  roleLimits,
  type SandboxAsk,
  type SandboxShape,
  shapeFor,
} from './role-limits.ts';
import type { Sandbox } from './sandbox.ts';
import { type Kept, Sessions } from './sessions.ts';
import type { DeniedEvent } from './sidecar-link.ts';

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

/** What a caller wants run, checked for form by the service and held against the role here. */
export interface ExecAsk {
  readonly target: Target;
  readonly program: Program;
  readonly role: string;
  readonly env: Readonly<Record<string, string>>;
  readonly cwd: string;
  readonly files: readonly { path: string; content: Buffer; mode: number }[];
  /** 0: the role's default. */
  readonly timeoutMs: number;
  /** 0: the role's. */
  readonly outputBytes: number;
  /** Where the answer holds less than the role allows, how much of each stream. */
  readonly outputMaxBytes?: number;
  readonly overflow: 'truncate' | 'kill';
  readonly openStdin: boolean;
  readonly requestId: string;
  readonly signal: AbortSignal;
  readonly onDenied?: (event: DeniedEvent) => void;
}

/** What is known of an exec from its start on. */
export interface ExecFacts {
  readonly execId: string;
  readonly sandboxId: string;
  readonly attestation: Attestation;
  /** Empty outside a session. */
  readonly session: string;
  readonly role: string;
  readonly policyDigest: string;
  readonly startedAt: Date;
  readonly requestId: string;
  readonly warm: boolean;
}

export interface Started {
  readonly facts: ExecFacts;
  readonly exec: Exec;
  readonly events: AsyncGenerator<ExecEvent, void, undefined>;
}

export interface RunnerDeps {
  readonly backend: Backend;
  readonly pool: WarmPool;
  readonly policy: () => LoadedPolicy;
  readonly signer: ExecutionSigner;
  readonly audit: AuditChain;
  readonly metrics: RunnerMetrics;
  readonly log: Logger;
  /** Execs at one time, of everybody. */
  readonly capacity: number;
  readonly runnerId: string;
}

/** How long an ended exec is remembered for GetExec. */
const REMEMBER_MS = 10 * 60_000;
const REMEMBER_MAX = 10_000;
/** What fits one frame to the agent, with room for what is added to an order. */
const ORDER_MAX_BYTES = FRAME_MAX_BYTES - 65_536;

/** One exec as its owner may see it: running, or ended and remembered without the contents of its artefacts. */
export interface ExecRecord {
  readonly owner: string;
  readonly facts: ExecFacts;
  readonly exec: Exec | undefined;
  readonly ending: Ending | undefined;
}

interface Live extends ExecRecord {
  readonly exec: Exec;
  readonly sandbox: Sandbox;
  /** The policy that it is held to, as far as it was told. */
  digest: string;
  /** Before its bind a sidecar passes a tightening over. */
  bound: boolean;
}

/** Runs programs: chooses role, sandbox and limits, binds the door, and accounts for every end. Knows no wire. */
export class Runner {
  readonly #deps: RunnerDeps;
  readonly sessions: Sessions;
  readonly #running = new Map<string, number>();
  readonly #live = new Map<string, Live>();
  readonly #ended = new Map<string, ExecRecord & { readonly endedAt: number }>();
  #auditBroken = false;
  /** Sandboxes to be kept whose claim is under way: their names are taken and they count. */
  readonly #making = new Set<{ owner: string; name: string; role: string }>();
  #number = 0;
  draining = false;

  constructor(deps: RunnerDeps) {
    this.#deps = deps;
    this.sessions = new Sessions((kept, reason) => {
      deps.metrics.sandboxes.dec();
      deps.audit.append({
        event: 'sandbox',
        sandboxId: kept.sandbox.id,
        role: kept.role,
        session: kept.name,
        detail: `ended: ${reason}`,
      });
    });
  }

  get running(): number {
    return [...this.#running.values()].reduce((sum, count) => sum + count, 0);
  }

  /** Whether the last record could not be written. */
  get auditBroken(): boolean {
    return this.#auditBroken;
  }

  get capacity(): number {
    return this.#deps.capacity;
  }

  get runnerId(): string {
    return this.#deps.runnerId;
  }

  /** Keeps warm what the roles of the policy need. */
  warmUp(): void {
    const { pool, backend, policy } = this.#deps;
    for (const role of policy().documents.roles) {
      const limits = roleLimits(role);
      try {
        pool.keep(shapeFor(limits, NOTHING_ASKED, backend, KNOWN));
      } catch {
        // This runner cannot serve that role: the caller is told when one comes.
      }
    }
  }

  /** Starts a program; the events are its output and its end. @throws {OutriderError} whatever keeps it from starting */
  async exec(caller: Caller, ask: ExecAsk): Promise<Started> {
    const queuedAt = performance.now();
    if (this.draining) throw new OutriderError('DRAINING', 'the runner is stopping');
    this.#assertAudit();
    const policy = this.#deps.policy();
    const role = this.#roleOf(caller, ask.role, policy);
    const limits = roleLimits(role);
    const owner = principalKey(caller.principal);
    const start = {
      ...programOrder(ask.program, profileOf(ask, limits)),
      env: sandboxEnvironment(ask.env),
      cwd: ask.cwd,
      stdin: ask.openStdin,
    };
    if (Buffer.byteLength(JSON.stringify(start)) > ORDER_MAX_BYTES)
      throw new OutriderError(
        'BODY_TOO_LARGE',
        'program, arguments and env are too large together',
      );
    const timeoutMs = bounded(
      'timeout',
      ask.timeoutMs,
      limits.timeoutDefaultMs,
      limits.timeoutMaxMs,
    );
    const outputMost = Math.min(limits.outputBytes, ask.outputMaxBytes ?? limits.outputBytes);
    const outputBytes = bounded('output.bytes', ask.outputBytes, outputMost, outputMost);
    const release = this.#reserve(owner, limits);
    let place: Place | undefined;
    try {
      place = await this.#place(owner, role, limits, ask, policy);
      const { sandbox } = place;
      for (const file of ask.files) await sandbox.link.write(file.path, [file.content], file.mode);
      const id = newId('exec');
      const startedAt = new Date();
      const token = () =>
        this.#deps.signer.sign({
          sandboxId: sandbox.id,
          execId: id,
          role: role.metadata.name,
          policyDigest: policy.digest,
          proof: caller.proof,
          startedAt: Math.floor(startedAt.getTime() / 1000),
          requestId: ask.requestId,
        });
      const exec = new Exec(
        sandbox,
        {
          id,
          start: { ...start, rlimits: sandbox.box.rlimits },
          binding: {
            execId: id,
            role: role.metadata.name,
            policy: canonicalJson(
              projectRole(policy.set, role.metadata.name, caller.principal.tenant),
            ),
            policyDigest: policy.digest,
            token: await token(),
            principal: caller.principal,
            requestId: ask.requestId,
          },
          renew: token,
          timeoutMs,
          outputBytes,
          overflow: ask.overflow,
          signal: ask.signal,
          onDenied: ask.onDenied ?? (() => {}),
        },
        ++this.#number,
      );
      const facts: ExecFacts = {
        execId: id,
        sandboxId: sandbox.id,
        attestation: sandbox.box.attestation,
        session: place.kept?.name ?? '',
        role: role.metadata.name,
        policyDigest: policy.digest,
        startedAt,
        requestId: ask.requestId,
        warm: place.warm,
      };
      await this.#begin(
        caller,
        { owner, facts, exec, sandbox, digest: policy.digest, bound: false, ending: undefined },
        place,
        release,
      );
      return { facts, exec, events: this.#observed(exec, facts.warm, queuedAt) };
    } catch (error) {
      release();
      if (place) await this.#leave(place);
      throw error;
    }
  }

  /** @throws {OutriderError} EXEC_NOT_FOUND, also for another's */
  findExec(caller: Caller, id: string): ExecRecord {
    const record = this.#live.get(id) ?? this.#ended.get(id);
    if (record?.owner !== principalKey(caller.principal))
      throw new OutriderError('EXEC_NOT_FOUND', 'there is no such exec');
    return record;
  }

  /** Makes a sandbox that is kept. @throws {OutriderError} SESSION_EXISTS, QUOTA_EXCEEDED and what `exec` throws */
  async create(caller: Caller, name: string, ask: SandboxAsk, roleName: string): Promise<Kept> {
    if (this.draining) throw new OutriderError('DRAINING', 'the runner is stopping');
    const policy = this.#deps.policy();
    const role = this.#roleOf(caller, roleName, policy);
    const owner = principalKey(caller.principal);
    if (name !== '' && this.sessions.byName(owner, name))
      throw new OutriderError('SESSION_EXISTS', `a session "${name}" exists`);
    return (await this.#keep(owner, name, role, roleLimits(role), ask, policy)).kept;
  }

  /** The policy changed: what runs is held to the narrower of old and new. */
  tighten(policy: LoadedPolicy): void {
    for (const live of this.#live.values()) if (live.bound) this.#tightenOne(live, policy);
  }

  /** Takes no new work, lets what runs end for `graceMs`, then ends everything. */
  async drain(graceMs: number): Promise<void> {
    this.draining = true;
    const deadline = Date.now() + graceMs;
    while (this.running > 0 && Date.now() < deadline)
      await new Promise((resolve) => setTimeout(resolve, 50));
    const live = [...this.#live.values()];
    for (const { exec } of live) exec.kill('runner', 'the runner is stopping', 'DRAINING');
    await this.sessions.close();
    await this.#deps.pool.close();
    await Promise.all(live.map(({ sandbox }) => sandbox.end()));
  }

  /** Starts an exec that is known from here on, so that no change of policy misses it; its end is seen to whoever reads it. */
  async #begin(caller: Caller, live: Live, place: Place, release: () => void): Promise<void> {
    const { exec, facts } = live;
    if (place.kept) place.kept.running = exec;
    this.#live.set(facts.execId, live);
    try {
      await exec.start();
    } catch (error) {
      this.#live.delete(facts.execId);
      this.#record(caller, facts, failedToStart(toOutriderError(error)));
      throw error;
    }
    live.bound = true;
    this.#tightenOne(live, this.#deps.policy());
    void exec.ended.then(async (ending) => {
      this.#live.delete(facts.execId);
      this.#remember(live, ending);
      this.#record(caller, facts, ending);
      release();
      await this.#leave(place);
    });
  }

  #tightenOne(live: Live, policy: LoadedPolicy): void {
    if (live.digest === policy.digest) return;
    live.digest = policy.digest;
    const { exec, facts, sandbox } = live;
    try {
      const { tenant } = exec.order.binding.principal;
      const projection = projectRole(policy.set, facts.role, tenant);
      sandbox.attachment.tighten(facts.execId, canonicalJson(projection), policy.digest);
    } catch {
      exec.kill('policy', 'the role is gone from the policy', 'ROLE_DENIED');
    }
  }

  async *#observed(
    exec: Exec,
    warm: boolean,
    queuedAt: number,
  ): AsyncGenerator<ExecEvent, void, undefined> {
    let first = true;
    for await (const event of exec.events()) {
      if (first && event.kind === 'chunk') {
        first = false;
        this.#deps.metrics.firstByte.observe(
          { warm: String(warm) },
          (performance.now() - queuedAt) / 1000,
        );
      }
      yield event;
    }
  }

  #roleOf(caller: Caller, asked: string, policy: LoadedPolicy): Role {
    if (caller.role !== '' && asked !== '' && asked !== caller.role)
      throw new OutriderError('ROLE_DENIED', `the call was authorised for the role ${caller.role}`);
    return chooseRole(policy.set, caller.principal, caller.role || asked, Date.now());
  }

  #reserve(owner: string, limits: RoleLimits): () => void {
    const mine = this.#running.get(owner) ?? 0;
    if (mine >= limits.concurrent)
      throw new OutriderError(
        'QUOTA_EXCEEDED',
        `${limits.concurrent} programs of yours run already`,
        { retryAfterMs: 1_000 },
      );
    if (this.running >= this.#deps.capacity)
      throw new OutriderError('QUOTA_EXCEEDED', 'the runner is busy', { retryAfterMs: 1_000 });
    this.#running.set(owner, mine + 1);
    this.#deps.metrics.running.inc();
    let done = false;
    return () => {
      if (done) return;
      done = true;
      this.#deps.metrics.running.dec();
      const left = (this.#running.get(owner) ?? 1) - 1;
      if (left > 0) this.#running.set(owner, left);
      else this.#running.delete(owner);
    };
  }

  async #place(
    owner: string,
    role: Role,
    limits: RoleLimits,
    { target }: ExecAsk,
    policy: LoadedPolicy,
  ): Promise<Place> {
    if (target.kind === 'fresh')
      return this.#claim(shapeFor(limits, target.ask, this.#deps.backend, KNOWN));
    const kept =
      target.kind === 'sandbox'
        ? this.sessions.byId(owner, target.id)
        : this.sessions.byName(owner, target.name);
    if (!kept) {
      if (target.kind === 'sandbox' || target.mustExist)
        throw new OutriderError('SESSION_NOT_FOUND', 'there is no such session');
      const made = await this.#keep(owner, target.name, role, limits, target.ask, policy);
      made.kept.busy = true;
      return { sandbox: made.kept.sandbox, warm: made.warm, kept: made.kept };
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
    return { sandbox: kept.sandbox, warm: true, kept };
  }

  async #claim(shape: SandboxShape): Promise<Place> {
    const { sandbox, warm } = await this.#deps.pool.claim(shape);
    if (this.draining) {
      await sandbox.end();
      throw new OutriderError('DRAINING', 'the runner is stopping');
    }
    this.#deps.metrics.claims.inc({ warm: String(warm) });
    this.#deps.metrics.sandboxes.inc();
    return { sandbox, warm, kept: undefined };
  }

  async #keep(
    owner: string,
    name: string,
    role: Role,
    limits: RoleLimits,
    ask: SandboxAsk,
    policy: LoadedPolicy,
  ): Promise<{ kept: Kept; warm: boolean }> {
    const mine = [...this.#making].filter((making) => making.owner === owner);
    if (name !== '' && mine.some((making) => making.name === name))
      throw new OutriderError('SESSION_BUSY', 'the session is being made', { retryAfterMs: 1_000 });
    const coming = mine.filter((making) => making.role === role.metadata.name).length;
    if (this.sessions.count(owner, role.metadata.name) + coming >= limits.sessions)
      throw new OutriderError(
        'QUOTA_EXCEEDED',
        `you keep ${limits.sessions} sandboxes already: delete one`,
      );
    const shape = shapeFor(limits, ask, this.#deps.backend, KNOWN);
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
      createdAt: now,
      lastUsedAt: now,
      expiresAt: now + limits.sessionMaxMs,
      idleMs: limits.sessionIdleMs,
      busy: false,
      running: undefined,
    };
    this.sessions.add(kept);
    return { kept, warm };
  }

  #record(caller: Caller, facts: ExecFacts, ending: Ending): void {
    const { metrics, audit, log, backend } = this.#deps;
    metrics.execs.inc({ killed_by: ending.killedBy });
    metrics.duration.observe({ killed_by: ending.killedBy }, ending.wallMs / 1000);
    const { issuer, subject, tenant } = caller.principal;
    try {
      audit.append({
        event: 'exec',
        requestId: facts.requestId,
        issuer,
        subject,
        tenant,
        role: facts.role,
        sandboxId: facts.sandboxId,
        execId: facts.execId,
        session: facts.session || undefined,
        policyDigest: facts.policyDigest,
        killedBy: ending.killedBy,
        exitCode: ending.exitCode,
        code: ending.errorCode || undefined,
        durationMs: Math.round(ending.wallMs),
        cpuMs: ending.cpuMs,
        maxRssBytes: ending.maxRssBytes,
        stdoutBytes: ending.stdout.total,
        stderrBytes: ending.stderr.total,
        backend: backend.name,
        tier: backend.tier,
        head: ending.egress.auditHead,
      });
    } catch (error) {
      log.error('an exec could not be recorded', { error, execId: facts.execId });
      this.#auditBroken = true;
    }
  }

  /** Nothing runs that cannot be recorded. @throws {OutriderError} AUDIT_UNAVAILABLE */
  #assertAudit(): void {
    if (!this.#auditBroken) return;
    this.#deps.audit.append({
      event: 'config',
      detail: 'the audit can be written again; records were lost before this one',
    });
    this.#auditBroken = false;
  }

  async #leave({ sandbox, kept }: Place): Promise<void> {
    if (kept && sandbox.alive) {
      kept.busy = false;
      kept.running = undefined;
      kept.lastUsedAt = Date.now();
      return;
    }
    if (!kept) this.#deps.metrics.sandboxes.dec();
    await sandbox.end();
  }

  #remember({ owner, facts }: Live, ending: Ending): void {
    const now = Date.now();
    const artefacts = ending.artefacts.map((artefact) => ({
      ...artefact,
      content: Buffer.alloc(0),
    }));
    this.#ended.set(facts.execId, {
      owner,
      facts,
      exec: undefined,
      ending: { ...ending, artefacts },
      endedAt: now,
    });
    for (const [id, { endedAt }] of this.#ended) {
      if (now - endedAt < REMEMBER_MS && this.#ended.size <= REMEMBER_MAX) break; // the oldest stand first
      this.#ended.delete(id);
    }
  }
}

interface Place {
  readonly sandbox: Sandbox;
  readonly warm: boolean;
  readonly kept: Kept | undefined;
}

const KNOWN = PROFILES.map((profile) => profile.name);
export const NOTHING_ASKED: SandboxAsk = {
  profile: '',
  backend: '',
  minimumTier: undefined,
  resources: { memoryBytes: 0, cpuMillis: 0, pids: 0, diskBytes: 0 },
};

function profileOf({ target }: ExecAsk, limits: RoleLimits): string {
  return (target.kind === 'sandbox' ? '' : target.ask.profile) || (limits.profiles[0] ?? '');
}

function bounded(name: string, asked: number, fallback: number, most: number): number {
  if (asked > most)
    throw new OutriderError(
      'INVALID_REQUEST',
      `${name} ${asked} is more than the ${most} that are allowed`,
    );
  return asked > 0 ? asked : fallback;
}

/** The program never began: its door could not be opened. */
function failedToStart(error: OutriderError): Ending {
  const none = { captured: 0, total: 0, dropped: 0 };
  return {
    killedBy: 'runner',
    exitCode: undefined,
    signal: '',
    wallMs: 0,
    cpuMs: 0,
    maxRssBytes: 0,
    stdout: none,
    stderr: none,
    exception: undefined,
    artefacts: [],
    egress: NO_EGRESS,
    detail: error.message,
    errorCode: error.code,
  };
}
