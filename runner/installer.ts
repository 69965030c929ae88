import { newId } from '#core/ids';
import type { Role } from '#policies';
import type { PolicyInForce } from '#policystore';
import type { ArtefactStore } from './artefacts.ts';
import { bindExec } from './bind-exec.ts';
import type { Caller } from './callers.ts';
import type { Registries, Requirement } from './dependencies.ts';
import type { TokenSource } from './exchanged-tokens.ts';
import { collect, type Ending, Exec } from './exec.ts';
import type { ExecFacts } from './exec-facts.ts';
import {
  type InstallStep,
  installSteps,
  outcomeOf,
  type StepOutcome,
  tidy,
  waitingBeside,
} from './install.ts';
import { joinOutput } from './output.ts';
import type { Place } from './places.ts';
import { sandboxEnvironment } from './profiles.ts';
import { roleLimits } from './role-limits.ts';
import type { Sandbox } from './sandbox.ts';
import type { Kept } from './sessions.ts';
import type { DeniedEvent } from './sidecar-link.ts';

/** On whose behalf, as what and since when something is installed. */
export interface InstallCall {
  readonly caller: Caller;
  readonly role: Role;
  readonly policy: PolicyInForce;
  readonly requestId: string;
  readonly calledAt: Date;
  readonly signal: AbortSignal;
  readonly labels: Readonly<Record<string, string>>;
  readonly purpose: string;
}

/** How one step ended. */
export interface InstallEnd {
  readonly ending: Ending;
  readonly outcome: StepOutcome;
}

export interface InstallerDeps {
  readonly signer: TokenSource;
  readonly registries: Registries;
  readonly artefacts: ArtefactStore;
  /** Of the next exec. */
  readonly nextNumber: () => number;
  /** Starts an exec that is known from here on, until `install` has its end; that is recorded. */
  readonly follow: (
    call: InstallCall,
    live: { readonly facts: ExecFacts; readonly exec: Exec; readonly sandbox: Sandbox },
    install: () => Promise<InstallEnd>,
  ) => Promise<StepOutcome>;
  readonly onDenied: (call: InstallCall, facts: ExecFacts, denied: DeniedEvent) => void;
  /** Ends a sandbox that was to be kept. */
  readonly drop: (kept: Kept) => Promise<void>;
}

/** What a manager may say. */
const OUTPUT_BYTES = 256 * 1024;

/** The first phase of sandboxes with dependencies. */
export class Installer {
  readonly #deps: InstallerDeps;

  constructor(deps: InstallerDeps) {
    this.#deps = deps;
  }

  /**
   * Installs what was asked for, each manager as an exec of its own behind the role's policies of phase install, and looks at
   * what came of it, before anything foreign has run. Where it fails the sandbox ends.
   * @throws {OutriderError} DEPENDENCY_REFUSED, DEPENDENCY_FAILED, CANCELLED, and codes of the exec's end
   */
  async install(call: InstallCall, place: Place, wanted: readonly Requirement[]): Promise<void> {
    const { sandbox, kept } = place;
    sandbox.installing = true;
    try {
      for (const step of await installSteps(wanted, this.#deps.registries, sandbox.link)) {
        const { error } = await this.#run(call, place, step);
        if (error) throw error;
        if (step.manager === 'pip') sandbox.hasPackages = true;
      }
      await tidy(sandbox.link);
      if (sandbox.hasPackages) sandbox.link.become(waitingBeside(sandbox.shape.profile));
    } catch (error) {
      if (kept) await this.#deps.drop(kept);
      else await sandbox.end();
      throw error;
    } finally {
      sandbox.installing = false;
    }
  }

  async #run(call: InstallCall, place: Place, step: InstallStep): Promise<StepOutcome> {
    const { sandbox, kept } = place;
    const facts = factsOf(call, place);
    const exec = await this.#execOf(call, sandbox, step, facts);
    if (kept) kept.running = exec;
    return this.#deps.follow(call, { facts, exec, sandbox }, async () => {
      const { stdout, stderr, ending } = await collect(exec.events());
      if (kept) kept.running = undefined;
      const said = joinOutput(ending.stderr.total > 0 ? stderr : stdout).toString('utf8');
      const { dependencies } = call.role.spec.sandbox;
      return { ending, outcome: await outcomeOf(step, ending, said, sandbox.link, dependencies) };
    });
  }

  async #execOf(
    call: InstallCall,
    sandbox: Sandbox,
    { argv, env }: InstallStep,
    facts: ExecFacts,
  ): Promise<Exec> {
    const { signer, artefacts, onDenied, nextNumber } = this.#deps;
    const { rlimits } = sandbox.box;
    const everywhere = sandboxEnvironment({}, sandbox.shape.profile);
    return new Exec(
      sandbox,
      {
        id: facts.execId,
        start: { argv, env: { ...everywhere, ...env }, cwd: '/tmp', stdin: false, rlimits },
        ...(await bindExec(signer, {
          ...call,
          ...facts,
          phase: 'install',
          authorisedAt: call.calledAt,
          certificateThumbprint: sandbox.attachment.certificateThumbprint,
        })),
        timeoutMs: leftOf(call.role, call.calledAt),
        outputBytes: OUTPUT_BYTES,
        overflow: 'truncate',
        signal: call.signal,
        onDenied: (denied) => onDenied(call, facts, denied),
        artefacts,
      },
      nextNumber(),
    );
  }
}

/** What is left of the role's time-out, in milliseconds: it holds for installing and the first program together. */
export function leftOf(role: Role, calledAt: Date): number {
  return Math.max(1, roleLimits(role).timeoutMaxMs - (Date.now() - calledAt.getTime()));
}

function factsOf(call: InstallCall, { sandbox, kept, warm }: Place): ExecFacts {
  const { role, policy, requestId, labels, purpose } = call;
  return {
    requestId,
    labels,
    purpose,
    warm,
    execId: newId('exec'),
    sandboxId: sandbox.id,
    attestation: sandbox.box.attestation,
    session: kept?.name ?? '',
    role: role.metadata.name,
    policyDigest: policy.digest,
    policyRevision: policy.revision,
    startedAt: new Date(),
    queuedMs: 0,
  };
}
