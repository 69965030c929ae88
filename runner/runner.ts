import type { AuditChain, AuditFields } from '#core/audit';
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
import { type Place, Places, profileOf, type Target } from './places.ts';
import type { WarmPool } from './pool.ts';
import { type Program, programOrder, sandboxEnvironment } from './profiles.ts';
import { roleLimits, type SandboxAsk } from './role-limits.ts';
import type { Sandbox } from './sandbox.ts';
import { type Kept, Sessions } from './sessions.ts';
import type { DeniedEvent } from './sidecar-link.ts';

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
  readonly #places: Places;
  readonly #live = new Map<string, Live>();
  readonly #ended = new Map<string, ExecRecord & { readonly endedAt: number }>();
  #auditBroken = false;
  #number = 0;

  constructor(deps: RunnerDeps) {
    this.#deps = deps;
    this.sessions = new Sessions((kept, reason) => {
      deps.metrics.sandboxes.dec();
      // Called from a timer: what cannot be recorded must not keep the sandbox from ending.
      this.#append({
        event: 'sandbox',
        sandboxId: kept.sandbox.id,
        role: kept.role,
        session: kept.name,
        detail: `ended: ${reason}`,
      });
    });
    this.#places = new Places({ ...deps, sessions: this.sessions });
  }

  get running(): number {
    return this.#places.running;
  }

  /** Whether no new work is taken. */
  get draining(): boolean {
    return this.#places.closed;
  }

  set draining(draining: boolean) {
    this.#places.closed = draining;
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
    for (const role of this.#deps.policy().documents.roles) {
      const limits = roleLimits(role);
      try {
        this.#places.warm(limits, NOTHING_ASKED);
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
      ...programOrder(ask.program, profileOf(ask.target, limits)),
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
    const release = this.#places.reserve(owner, limits);
    let place: Place | undefined;
    try {
      place = await this.#places.take(owner, role, limits, ask.target, policy.digest);
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
      if (place) await this.#places.leave(place);
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
    return (await this.#places.keep(owner, name, role, roleLimits(role), ask, policy.digest)).kept;
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
      await this.#places.leave(place);
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

  #record(caller: Caller, facts: ExecFacts, ending: Ending): void {
    const { metrics, backend } = this.#deps;
    metrics.execs.inc({ killed_by: ending.killedBy });
    metrics.duration.observe({ killed_by: ending.killedBy }, ending.wallMs / 1000);
    const { issuer, subject, tenant } = caller.principal;
    this.#append({
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
  }

  /** Ends are recorded after the fact: where that fails, nothing new is started until it works again. */
  #append(fields: AuditFields): void {
    try {
      this.#deps.audit.append(fields);
    } catch (error) {
      const { execId, sandboxId } = fields;
      this.#deps.log.error('an end could not be recorded', { error, execId, sandboxId });
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

export const NOTHING_ASKED: SandboxAsk = {
  profile: '',
  backend: '',
  minimumTier: undefined,
  resources: { memoryBytes: 0, cpuMillis: 0, pids: 0, diskBytes: 0 },
};

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
