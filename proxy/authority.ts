import {
  mayInstall,
  type PolicySet,
  type RolePolicy,
  rolePolicy,
  rolesOf,
  sandboxBounds,
} from '#policies';
import type { Identity } from './identify.ts';
import { refused } from './refusal.ts';

/** A caller whose role this proxy derived itself, with the policy that decides for it. */
export interface Caller {
  readonly identity: Identity;
  readonly role: string;
  readonly policy: RolePolicy;
  readonly set: PolicySet;
  /** When the exec must be over, in milliseconds since 1970. */
  readonly endsAtMs: number;
}

/** The policy in force, and whether an exec may have been bound to that of a digest. */
export interface PolicySource {
  readonly current: { readonly set: PolicySet };
  knows(digest: string): boolean;
}

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
      const { set } = source.current;
      const own = rolesOf(set, principal, now()).includes(execution.role);
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
      // No listener of this version sees a client certificate, so none can be the right one.
      if (execution.certificateThumbprint !== undefined)
        throw refused(
          'UNAUTHENTICATED',
          'the token is bound to another connection',
          'jwt_cnf_mismatch',
        );
      if (!source.knows(execution.policyDigest))
        throw refused(
          'POLICY_MISMATCH',
          'sidecar and proxy hold different policies',
          'policy_mismatch',
        );
      const policy = rolePolicy(set, execution.role, principal.tenant, execution.phase);
      return { identity, role: execution.role, policy, set, endsAtMs };
    },

    policyNow({ execution, principal }) {
      const { set } = source.current;
      return rolesOf(set, principal, now()).includes(execution.role)
        ? rolePolicy(set, execution.role, principal.tenant, execution.phase)
        : undefined;
    },
  };
}
