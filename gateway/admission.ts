import { OutriderError } from '#core/errors';
import type { Principal } from '#core/principal';
import type { Authenticate } from './auth/authenticator.ts';
import { AUTH_FAILURES, type AuthFailure, challenge } from './auth/challenge.ts';
import type { TokenVerdict } from './auth/token-claims.ts';

/**
 * Lets a caller in, by its `Authorization` header.
 * @throws {Refused} UNAUTHENTICATED | INSUFFICIENT_SCOPE | UPSTREAM_UNREACHABLE
 */
export type Admit = (authorization: string | undefined) => Principal | Promise<Principal>;

/** What challenges name: the URL of the metadata, and the scopes where it is not known whose token it should be. */
export function createAdmission(
  authenticate: Authenticate,
  named: { readonly metadata: string | undefined; readonly scopes: readonly string[] },
  onFailure: (reason: AuthFailure) => void,
): Admit {
  const admitted = (verdict: TokenVerdict): Principal => {
    if (verdict.ok) return verdict.principal;
    const { reason, scopes } = verdict;
    onFailure(reason);
    const wanted = scopes.length > 0 ? scopes : named.scopes;
    throw new Refused(verdict, challenge(reason, wanted, named.metadata));
  };
  return (authorization) => {
    const verdict = authenticate(authorization);
    return verdict instanceof Promise ? verdict.then(admitted) : admitted(verdict);
  };
}

/** A caller who was not let in, with the challenge that tells it what would help. */
export class Refused extends OutriderError {
  readonly challenge: string | undefined;

  constructor(
    { reason, cause, retryAfterMs }: Extract<TokenVerdict, { ok: false }>,
    header: string | undefined,
  ) {
    super(codeOf(reason), AUTH_FAILURES[reason], { cause: cause ?? reason, retryAfterMs });
    this.challenge = header;
  }
}

function codeOf(
  reason: AuthFailure,
): 'UNAUTHENTICATED' | 'INSUFFICIENT_SCOPE' | 'UPSTREAM_UNREACHABLE' {
  if (reason === 'scope') return 'INSUFFICIENT_SCOPE';
  return reason === 'keys_unavailable' ? 'UPSTREAM_UNREACHABLE' : 'UNAUTHENTICATED';
}
