import {
  hasRole,
  mayInstall,
  type PolicySet,
  type RolePolicy,
  rolePolicy,
  sandboxBounds,
} from '#policies';
import type { PolicyInForce } from '#policystore';
import type { Identity } from './identify.ts';
import { refused } from './refusal.ts';

/** A caller whose role this proxy derived itself, with the policy that decides for it. */
export interface Caller {
  readonly identity: Identity;
  readonly role: string;
  readonly policy: RolePolicy;
  readonly set: PolicySet;
  readonly revision: PolicyInForce['revision'];
  /** When the exec must be over, in milliseconds since 1970. */
  readonly endsAtMs: number;
}

/** The policies in force: the current one and, while it is tried on a share of the sandboxes, a canary's. */
export interface PolicySource {
  readonly current: Decider;
  /** The one of a digest, where it is in force. */
  ofDigest(digest: string): Decider | undefined;
  /** Whether an exec may have been bound to that of a digest. */
  knows(digest: string): boolean;
}

/** A policy that decides, and the reviewed state that it is, where it came as a bundle. */
export type Decider = Pick<PolicyInForce, 'set' | 'revision'>;

/** What an exec may take beyond its time-out to be ended and to deliver its last bytes. */
const END_GRACE_MS = 60_000;

/** What a verified identity may do here. */
export interface Authority {
  /**
   * The role that the token names, where this proxy's own Role documents give it to the principal of the assertion; with the
   * policy of the token's phase.
   * @throws {OutriderError} ROLE_DENIED, UNAUTHENTICATED (the exec is over), POLICY_MISMATCH
   */
  callerOf(identity: Identity): Caller;
  /** The policy that decides for it now, whatever digest its token has; undefined where its role is no longer its own. */
  policyNow(identity: Identity): RolePolicy | undefined;
}

export function createAuthority(source: PolicySource, now = () => Date.now()): Authority {
  return {
    callerOf(identity) {
      const { execution, principal, grantedRole } = identity;
      const { set, revision } = deciderOf(source, execution);
      const own = hasRole(set, principal, execution.role, now());
      const role = own ? set.roles.get(execution.role) : undefined;
      if (!role)
        throw refused('ROLE_DENIED', 'the role is not one of the principal', 'role_denied');
      if (grantedRole !== '' && grantedRole !== execution.role)
        throw refused('ROLE_DENIED', 'the role is not the one that was granted', 'role_denied');
      if (execution.phase === 'install' && !mayInstall(role))
        throw refused('ROLE_DENIED', 'the role may install nothing', 'role_denied');
      const endsAtMs = execution.startedAt * 1_000 + sandboxBounds(role).timeoutMs + END_GRACE_MS;
      if (now() > endsAtMs)
        throw refused(
          'UNAUTHENTICATED',
          'the execution has lasted longer than its role allows',
          'jwt_exp',
        );
      if (!source.knows(execution.policyDigest))
        throw refused(
          'POLICY_MISMATCH',
          'sidecar and proxy hold different policies',
          'policy_mismatch',
        );
      const policy = rolePolicy(set, execution.role, principal.tenant, execution.phase);
      return { identity, role: execution.role, policy, set, revision, endsAtMs };
    },

    policyNow({ execution, principal }) {
      const { set } = deciderOf(source, execution);
      return hasRole(set, principal, execution.role, now())
        ? rolePolicy(set, execution.role, principal.tenant, execution.phase)
        : undefined;
    },
  };
}

/** A sandbox of the canary is held to the canary's policy; one whose policy is no longer in force, to the current one. */
function deciderOf(source: PolicySource, { policyDigest }: Identity['execution']): Decider {
  return source.ofDigest(policyDigest) ?? source.current;
}
