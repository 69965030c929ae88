import type { Phase } from '#policies';
import type { PolicyInForce } from '#policystore';
import type { Caller } from './callers.ts';
import type { TokenSource } from './exchanged-tokens.ts';
import { projected } from './projections.ts';
import type { Binding } from './sidecar-link.ts';

/** Who calls out of which sandbox, as what, since when. */
export interface ExecIdentity {
  readonly caller: Caller;
  readonly sandboxId: string;
  readonly execId: string;
  readonly role: string;
  readonly policy: PolicyInForce;
  readonly phase: Phase;
  /** The caller's proof must have been valid then, and the role's time-out counts from then. */
  readonly authorisedAt: Date;
  readonly requestId: string;
  /** Of the sidecar's certificate, which alone may carry the token; absent on one host. */
  readonly certificateThumbprint: string | undefined;
}

/**
 * What an exec's door is bound to, and how its token is made anew while it runs.
 * @throws {OutriderError} ROLE_DENIED where the policy has no such role
 */
export async function bindExec(
  signer: TokenSource,
  exec: ExecIdentity,
): Promise<{ readonly binding: Binding; readonly renew: () => Promise<Binding['token']> }> {
  const { caller, sandboxId, execId, role, policy, phase, authorisedAt, requestId } = exec;
  const { principal, proof } = caller;
  const policyDigest = policy.digest;
  const startedAt = Math.floor(authorisedAt.getTime() / 1000);
  const { certificateThumbprint } = exec;
  const bound = certificateThumbprint === undefined ? {} : { certificateThumbprint };
  const claims = { sandboxId, execId, role, policyDigest, proof, startedAt, requestId, ...bound };
  const { text, intercepts } = projected(policy.set, role, principal.tenant, phase);
  const renew = () => signer.sign(phase === 'install' ? { ...claims, phase } : claims);
  return {
    binding: {
      execId,
      role,
      policyDigest,
      policyRevision: policy.revision,
      principal,
      requestId,
      policy: text,
      intercepts,
      token: await renew(),
    },
    renew,
  };
}
