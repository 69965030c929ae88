import type { OutriderError } from '#core/errors';
import { newId } from '#core/ids';
import { readLocalToken } from '#core/local-token';
import { LOCAL_PRINCIPAL } from '#core/principal';
import { rolesOf } from '#policies';
import type { PolicySource } from './authority.ts';
import type { ProxyConfig } from './config.ts';
import type { DirectCallers, Identity } from './identify.ts';
import { refused } from './refusal.ts';

/** Long enough for any one request; each request is a new one. */
const CALL_S = 60;

/**
 * With `auth: none` whoever sends no token, with `auth: token` whoever sends that of `tokenFile`: both are the local principal, in the one
 * role that it has. A token that is sent is never passed over: one that is wrong is refused in every mode.
 * @throws {OutriderError} CONFIG_INVALID where the token cannot be read
 */
export function createDirectCallers(
  { auth, tokenFile }: Pick<ProxyConfig, 'auth' | 'tokenFile'>,
  policies: PolicySource,
): DirectCallers {
  if (auth === 'jwt') return { identify: () => undefined };
  if (auth === 'none')
    return { identify: (token) => (token === undefined ? localIdentity(policies) : undefined) };
  const isLocal = readLocalToken(tokenFile);
  return {
    identify: (token) =>
      token !== undefined && isLocal?.(token) ? localIdentity(policies) : undefined,
  };
}

function localIdentity({ current }: PolicySource): Identity {
  const [role, ...others] = rolesOf(current.set, LOCAL_PRINCIPAL, Date.now());
  if (role === undefined) throw noRole('ROLE_DENIED', 'no Role names the local principal');
  if (others.length > 0)
    throw noRole(
      'ROLE_AMBIGUOUS',
      'several Roles name the local principal, and here it must be one',
    );
  const nowS = Math.floor(Date.now() / 1_000);
  return {
    principal: LOCAL_PRINCIPAL,
    grantedRole: role,
    execution: {
      issuer: LOCAL_PRINCIPAL.issuer,
      sandboxId: '',
      execId: '',
      role,
      policyDigest: current.set.digest,
      proof: '',
      startedAt: nowS,
      requestId: newId('req'),
      phase: undefined,
      certificateThumbprint: undefined,
      tokenId: '',
      issuedAt: nowS,
      expiresAt: nowS + CALL_S,
    },
  };
}

function noRole(code: 'ROLE_DENIED' | 'ROLE_AMBIGUOUS', message: string): OutriderError {
  return refused(code, message, 'role_denied');
}
