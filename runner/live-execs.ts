import { toOutriderError } from '#core/errors';
import type { Phase } from '#policies';
import type { Exec } from './exec.ts';
import type { ExecFacts } from './exec-facts.ts';
import { heldTo, type Policies } from './policies.ts';
import { projected } from './projections.ts';
import type { Revocations } from './revocations.ts';
import type { Sandbox } from './sandbox.ts';

/** An exec that runs. */
export interface LiveExec {
  readonly owner: string;
  readonly facts: ExecFacts;
  readonly exec: Exec;
  readonly ending: undefined;
  readonly sandbox: Sandbox;
  readonly phase: Phase;
}

interface Held {
  readonly live: LiveExec;
  /** The policy that it is held to, as far as it was told. */
  digest: string;
  /** Before its bind a sidecar passes a tightening over. */
  bound: boolean;
}

/** The execs that run. Each is held to the policy that it began with, or to a narrower one where that is no longer in force. */
export class LiveExecs {
  readonly #policies: Policies;
  readonly #revocations: Revocations;
  readonly #execs = new Map<string, Held>();

  constructor(policies: Policies, revocations: Revocations) {
    this.#policies = policies;
    this.#revocations = revocations;
  }

  get(execId: string): LiveExec | undefined {
    return this.#execs.get(execId)?.live;
  }

  all(): LiveExec[] {
    return [...this.#execs.values()].map(({ live }) => live);
  }

  /** Starts an exec that is known from here on, so that no change of policy misses it; its tokens are revoked when it is over. */
  start(live: LiveExec): void {
    const { exec, facts } = live;
    const held: Held = { live, digest: facts.policyDigest, bound: false };
    this.#execs.set(facts.execId, held);
    void exec.over.then(() => this.#revocations.revoke(facts.execId));
    exec.start();
    void exec.bound.then((bound) => {
      held.bound = bound;
      if (bound) this.#tightenOne(held);
    });
  }

  forget(execId: string): void {
    this.#execs.delete(execId);
  }

  /** The policies changed. An exec whose role is gone is ended: `policy`, ROLE_DENIED. */
  tighten(): void {
    for (const held of this.#execs.values()) if (held.bound) this.#tightenOne(held);
  }

  #tightenOne(held: Held): void {
    const policy = heldTo(this.#policies, held.digest);
    if (held.digest === policy.digest) return;
    held.digest = policy.digest;
    const { exec, facts, sandbox, phase } = held.live;
    try {
      const { tenant } = exec.order.binding.principal;
      const { text } = projected(policy.set, facts.role, tenant, phase);
      sandbox.attachment.tighten(facts.execId, text, policy.digest, policy.revision);
    } catch (thrown) {
      const { message, code } = toOutriderError(thrown);
      exec.kill('policy', message, code);
    }
  }
}
