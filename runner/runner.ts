import type { AuditChain } from '#core/audit';
import { OutriderError, toOutriderError } from '#core/errors';
import { newId } from '#core/ids';
import type { Logger } from '#core/log';
import { principalKey } from '#core/principal';
import { chooseRole, type Role } from '#policies';
import type { PolicyInForce } from '#policystore';
import type { ArtefactStore } from './artefacts.ts';
import { bindExec } from './bind-exec.ts';
import { assertRole, type Caller } from './callers.ts';
import type { KnownBackend } from './choose-backend.ts';
import { assertInstallable, type Registries } from './dependencies.ts';
import { EndedExecs, failedToStart, lostExec, noted, withoutContents } from './ended-execs.ts';
import { Events, freshCreated, freshEnded } from './events.ts';
import type { TokenSource } from './exchanged-tokens.ts';
import { type Ending, Exec, type ExecEvent } from './exec.ts';
import { boundsOf, dependenciesOf, type ExecAsk, startOrder } from './exec-ask.ts';
import type { ExecFacts } from './exec-facts.ts';
import { ExecLog } from './exec-log.ts';
import { packageEnvironment, type StepOutcome } from './install.ts';
import { type InstallCall, type InstallEnd, Installer, leftOf } from './installer.ts';
import { type ExecJournal, LOST_KEEP_MS, LOST_MAX } from './journal.ts';
import { type LiveExec, LiveExecs } from './live-execs.ts';
import type { RunnerMetrics } from './metrics.ts';
import { type Place, Places, type Target } from './places.ts';
import { heldTo, type Policies } from './policies.ts';
import type { WarmPool } from './pool.ts';
import { projected } from './projections.ts';
import { Revocations } from './revocations.ts';
import { NOTHING_ASKED, roleLimits, type SandboxAsk } from './role-limits.ts';
import { type Kept, Sessions } from './sessions.ts';

export interface Started {
  readonly facts: ExecFacts;
  readonly exec: Exec;
  readonly events: AsyncGenerator<ExecEvent, void, undefined>;
}

export interface RunnerDeps {
  /** The configured backends, as last looked at. */
  readonly backends: () => readonly KnownBackend[];
  readonly pool: WarmPool;
  readonly policies: Policies;
  readonly signer: TokenSource;
  /** Where dependencies come from. */
  readonly registries: Registries;
  readonly audit: AuditChain;
  readonly journal: Pick<ExecJournal, 'begin' | 'end' | 'lost' | 'lostEarlier'>;
  readonly metrics: RunnerMetrics;
  readonly log: Logger;
  /** Execs at one time, of everybody. */
  readonly capacity: number;
  /** The memory limits of all sandboxes in use, together; 0 for no bound. */
  readonly memoryBytes: number;
  readonly runnerId: string;
  /** What execs left in /output. */
  readonly artefacts: ArtefactStore;
}

/** One exec as its owner may see it: running, or ended and remembered without the contents of its artefacts. */
export interface ExecRecord {
  readonly owner: string;
  readonly facts: ExecFacts;
  readonly exec: Exec | undefined;
  readonly ending: Ending | undefined;
}

/** Runs programs: chooses role, sandbox and limits, binds the door, and accounts for every end. Knows no wire. */
export class Runner {
  readonly #deps: RunnerDeps;
  readonly sessions: Sessions;
  readonly events = new Events();
  readonly revocations = new Revocations();
  readonly #places: Places;
  readonly #installer: Installer;
  readonly #live: LiveExecs;
  readonly #ended = new EndedExecs();
  readonly #lost = new EndedExecs({ keepMs: LOST_KEEP_MS, most: LOST_MAX });
  readonly #log: ExecLog;
  #number = 0;

  constructor(deps: RunnerDeps) {
    this.#deps = deps;
    this.#log = new ExecLog(deps);
    this.#live = new LiveExecs(deps.policies, this.revocations);
    this.sessions = new Sessions((kept, reason) => {
      deps.metrics.sandboxes.dec();
      // Called from a timer: what cannot be recorded must not keep the sandbox from ending.
      this.#log.append({
        event: 'sandbox',
        sandboxId: kept.sandbox.id,
        role: kept.role,
        session: kept.name,
        detail: `ended: ${reason}`,
      });
      this.events.publish(kept.owner, kept.sandbox.id, { kind: 'sandboxEnded', reason });
    });
    this.sessions.onAdd = (kept) =>
      this.events.publish(kept.owner, kept.sandbox.id, { kind: 'sandboxCreated', sandbox: kept });
    for (const { exec, at } of deps.journal.lostEarlier) {
      const { principal, facts, ending } = lostExec(exec);
      this.#lost.add(principal, facts, ending, at);
    }
    for (const { principal, facts, ending } of deps.journal.lost.map(lostExec)) {
      this.#lost.add(principal, facts, ending);
      this.#log.ended(principal, facts, ending);
      this.revocations.revoke(facts.execId);
    }
    this.#places = new Places({ ...deps, sessions: this.sessions });
    this.#installer = new Installer({
      ...deps,
      nextNumber: () => ++this.#number,
      follow: (call, live, install) => this.#follow(call, live, install),
      onDenied: ({ caller }, facts, denied) => {
        const owner = principalKey(caller.principal);
        this.events.publish(owner, facts.sandboxId, { kind: 'egressDenied', denied }, facts);
      },
      drop: (kept) => this.sessions.end(kept, 'runner'),
    });
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
    return this.#log.broken;
  }

  get capacity(): number {
    return this.#deps.capacity;
  }

  get runnerId(): string {
    return this.#deps.runnerId;
  }

  /** Keeps warm what the roles of the policy need. */
  warmUp(): void {
    const roles = this.#deps.policies.inForce.flatMap(({ documents }) => documents.roles);
    this.#places.warm(roles.map(roleLimits), NOTHING_ASKED);
  }

  /** As `Places.unusableProfiles`. */
  get unusableProfiles(): Readonly<Record<string, string>> {
    return this.#places.unusableProfiles;
  }

  /** Starts a program; the events are its output and its end. @throws {OutriderError} whatever keeps it from starting */
  async exec(caller: Caller, ask: ExecAsk): Promise<Started> {
    const queuedAt = performance.now();
    const calledAt = new Date();
    if (this.draining) throw new OutriderError('DRAINING', 'the runner is stopping');
    this.#log.assertWritable();
    const owner = principalKey(caller.principal);
    const policy = this.#policyFor(owner, ask.target);
    const role = this.#roleOf(caller, ask.role, policy);
    const limits = roleLimits(role);
    const profile = this.#places.profileOf(owner, ask.target, limits);
    const { reachesS3 } = projected(policy.set, role.metadata.name, caller.principal.tenant);
    const start = startOrder(ask, profile, reachesS3);
    const { timeoutMs, outputBytes } = boundsOf(ask, limits);
    const wanted = dependenciesOf(ask.target);
    assertInstallable(wanted, role.spec.sandbox.dependencies, this.#deps.registries);
    const release = this.#places.reserve(owner, limits);
    let place: Place | undefined;
    try {
      place = await this.#places.take(owner, role, limits, ask.target, policy);
      const { sandbox } = place;
      const installs = place.fresh && wanted.length > 0;
      if (installs)
        await this.#installer.install({ ...ask, caller, role, policy, calledAt }, place, wanted);
      for (const file of ask.files) await sandbox.link.write(file.path, [file.content], file.mode);
      const id = newId('exec');
      const startedAt = new Date();
      const { binding, renew } = await bindExec(this.#deps.signer, {
        caller,
        sandboxId: sandbox.id,
        execId: id,
        role: role.metadata.name,
        policy,
        phase: 'run',
        // The caller's proof was good when it called: queueing and installing may have taken longer than that lasts.
        authorisedAt: calledAt,
        requestId: ask.requestId,
        certificateThumbprint: sandbox.attachment.certificateThumbprint,
      });
      const exec = new Exec(
        sandbox,
        {
          id,
          start: {
            ...start,
            env: sandbox.hasPackages ? packageEnvironment(start.env) : start.env,
            rlimits: sandbox.box.rlimits,
          },
          binding,
          renew,
          timeoutMs: installs ? Math.min(timeoutMs, leftOf(role, calledAt)) : timeoutMs,
          outputBytes,
          overflow: ask.overflow,
          signal: ask.signal,
          onDenied: (denied) =>
            this.events.publish(owner, sandbox.id, { kind: 'egressDenied', denied }, facts),
          artefacts: this.#deps.artefacts,
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
        policyRevision: policy.revision,
        startedAt,
        requestId: ask.requestId,
        warm: place.warm && !installs,
        labels: ask.labels,
        purpose: ask.purpose,
        queuedMs: performance.now() - queuedAt,
      };
      this.#deps.journal.begin(noted(caller.principal, facts, ask.idempotency));
      const live = { owner, facts, exec, sandbox, phase: 'run', ending: undefined } as const;
      this.#begin(caller, live, place, release);
      return { facts, exec, events: this.#observed(exec, facts.warm, queuedAt) };
    } catch (error) {
      release();
      if (place) await this.#places.leave(place);
      throw error;
    }
  }

  /** @throws {OutriderError} EXEC_NOT_FOUND, also for another's; ROLE_DENIED */
  findExec(caller: Caller, id: string): ExecRecord {
    const record = this.#live.get(id) ?? this.#ended.get(id) ?? this.#lost.get(id);
    if (record?.owner !== principalKey(caller.principal))
      throw new OutriderError('EXEC_NOT_FOUND', 'there is no such exec');
    assertRole(caller, record.facts.role);
    return record;
  }

  /** Makes a sandbox that is kept. @throws {OutriderError} SESSION_EXISTS, QUOTA_EXCEEDED and what `exec` throws */
  async create(
    caller: Caller,
    name: string,
    ask: SandboxAsk,
    roleName: string,
    { requestId }: { requestId: string },
  ): Promise<Kept> {
    const calledAt = new Date();
    if (this.draining) throw new OutriderError('DRAINING', 'the runner is stopping');
    const policy = this.#deps.policies.forNewSandbox();
    const role = this.#roleOf(caller, roleName, policy);
    const owner = principalKey(caller.principal);
    if (name !== '' && this.sessions.byName(owner, name))
      throw new OutriderError('SESSION_EXISTS', `a session "${name}" exists`);
    const limits = roleLimits(role);
    const { dependencies = [] } = ask;
    assertInstallable(dependencies, role.spec.sandbox.dependencies, this.#deps.registries);
    if (dependencies.length === 0)
      return (await this.#places.keep(owner, name, role, limits, ask, policy)).kept;
    this.#log.assertWritable();
    const release = this.#places.reserve(owner, limits);
    try {
      const made = await this.#places.keep(owner, name, role, limits, ask, policy);
      const place: Place = { ...made, sandbox: made.kept.sandbox, fresh: true };
      made.kept.busy = true;
      const { signal } = new AbortController(); // it is the owner's to delete, also when this call is gone
      const call = { caller, role, policy, requestId, calledAt, signal, labels: {}, purpose: '' };
      await this.#installer.install(call, place, dependencies);
      await this.#places.leave(place);
      return made.kept;
    } finally {
      release();
    }
  }

  /** Counts an exec of the caller that another runner runs, until `release`. @throws {OutriderError} QUOTA_EXCEEDED */
  holdPlace(caller: Caller, roleName: string): () => void {
    if (this.draining) throw new OutriderError('DRAINING', 'the runner is stopping');
    const { concurrent } = roleLimits(this.#roleOf(caller, roleName, this.#deps.policies.current));
    return this.#places.quota.hold(principalKey(caller.principal), concurrent);
  }

  /**
   * The policies changed: what runs under one that is no longer in force is held to the narrower of that and the current one, and
   * kept sandboxes have the current one from their next exec on.
   */
  tighten(): void {
    for (const kept of this.sessions.all()) {
      const { digest, revision } = heldTo(this.#deps.policies, kept.policyDigest);
      kept.policyDigest = digest;
      kept.policyRevision = revision;
    }
    this.#live.tighten();
  }

  /** Takes no new work, lets what runs end for `graceMs`, then ends everything. */
  async drain(graceMs: number): Promise<void> {
    this.draining = true;
    const deadline = Date.now() + graceMs;
    while (this.running > 0 && Date.now() < deadline)
      await new Promise((resolve) => setTimeout(resolve, 50));
    const live = this.#live.all();
    for (const { exec } of live) exec.kill('runner', 'the runner is stopping', 'DRAINING');
    await this.sessions.close();
    await this.#deps.pool.close();
    await Promise.all(live.map(({ sandbox }) => sandbox.end()));
    this.events.close();
    this.revocations.close();
  }

  /** An exec that installs something, from its start to its record. */
  async #follow(
    { caller }: InstallCall,
    { facts, exec, sandbox }: Pick<LiveExec, 'facts' | 'exec' | 'sandbox'>,
    install: () => Promise<InstallEnd>,
  ): Promise<StepOutcome> {
    const owner = principalKey(caller.principal);
    this.#deps.journal.begin(noted(caller.principal, facts, undefined));
    try {
      this.#live.start({ owner, facts, exec, sandbox, phase: 'install', ending: undefined });
      const { ending, outcome } = await install();
      this.#log.ended(caller.principal, facts, ending, outcome);
      return outcome;
    } finally {
      this.#live.forget(facts.execId);
      this.#deps.journal.end(facts.execId);
    }
  }

  /** Starts a program; its end is seen to whoever reads it. */
  #begin(caller: Caller, live: LiveExec, place: Place, release: () => void): void {
    const { exec, facts } = live;
    if (place.kept) place.kept.running = exec;
    try {
      this.#live.start(live);
    } catch (error) {
      this.#live.forget(facts.execId);
      this.#deps.journal.end(facts.execId, false);
      this.#log.ended(caller.principal, facts, failedToStart(toOutriderError(error)));
      throw error;
    }
    const { owner, sandbox } = live;
    if (!place.kept) this.events.publish(owner, sandbox.id, freshCreated(sandbox, facts));
    this.events.publish(owner, sandbox.id, { kind: 'execStarted', facts }, facts);
    void exec.ended.then(async (ending) => {
      this.#live.forget(facts.execId);
      this.#ended.add(caller.principal, facts, ending);
      this.#log.ended(caller.principal, facts, ending);
      this.#deps.journal.end(facts.execId);
      this.events.publish(
        owner,
        sandbox.id,
        { kind: 'execEnded', facts, ending: withoutContents(ending) },
        facts,
      );
      release();
      await this.#places.leave(place);
      if (!place.kept) this.events.publish(owner, sandbox.id, freshEnded(ending));
    });
  }

  /** A new sandbox may be the canary's; one that is kept stays with its own policy while that is in force. */
  #policyFor(owner: string, target: Target): PolicyInForce {
    const { policies } = this.#deps;
    const kept = this.#places.kept(owner, target);
    return kept ? heldTo(policies, kept.policyDigest) : policies.forNewSandbox();
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

  #roleOf(caller: Caller, asked: string, policy: PolicyInForce): Role {
    if (caller.role !== '' && asked !== '' && asked !== caller.role)
      throw new OutriderError('ROLE_DENIED', `the call was authorised for the role ${caller.role}`);
    return chooseRole(policy.set, caller.principal, caller.role || asked, Date.now());
  }
}
