import type { OutriderError } from '#core/errors';
import { newId } from '#core/ids';
import { readLocalToken } from '#core/local-token';
import { LOCAL_PRINCIPAL } from '#core/principal';
import { rolesOf } from '#policies';
import type { PolicySource } from './authority.ts';
import type { ProxyConfig } from './config.ts';
import { valuesOf } from './headers.ts';
import type { CallerRequest, DirectCallers, Identity } from './identify.ts';
import { refused } from './refusal.ts';

/** Long enough for any one request; each request is a new one. */
const CALL_S = 60;

/** What a browser writes and a page cannot leave out. `Sec-Fetch-Mode` is not among them: Node's fetch sends that, too. */
const PAGE_FIELDS = ['origin', 'sec-fetch-site'];
const LOOPBACK_HOST = /^(?:localhost|127(?:\.\d{1,3}){3}|\[::1\])(?::\d{1,5})?$/i;

/**
 * With `auth: none` whoever sends no token, with `auth: token` whoever sends that of `tokenFile`: both are the local principal, in the one
 * role that it has. A token that is sent is never passed over: one that is wrong is refused in every mode. Web pages are no direct
 * callers, whatever they send.
 * @throws {OutriderError} CONFIG_INVALID where the token cannot be read
 */
export function createDirectCallers(
  { auth, tokenFile, insecure }: Pick<ProxyConfig, 'auth' | 'tokenFile' | 'insecure'>,
  policies: PolicySource,
): DirectCallers {
  if (auth === 'jwt') return { identify: () => undefined };
  const isLocal = auth === 'token' ? readLocalToken(tokenFile) : undefined;
  const isGood = (token: string | undefined): boolean =>
    auth === 'none' ? token === undefined : token !== undefined && isLocal?.(token) === true;
  return {
    identify(token, request) {
      if (!isGood(token)) return undefined;
      assertNoPage(request, insecure);
      return localIdentity(policies);
    },
  };
}

/**
 * A page that a person on this machine has open can send requests to its loopback addresses, and under a name of its own that leads there
 * it even reads the answers (DNS rebinding); to a unix socket it has no way. With `insecure` others call this proxy by names it does not know.
 * @throws {OutriderError} EGRESS_DENIED
 */
function assertNoPage({ rawHeaders, socket, url }: CallerRequest, insecure: boolean): void {
  if (socket.remoteAddress === undefined) return;
  if (PAGE_FIELDS.some((name) => valuesOf(rawHeaders, name).length > 0))
    throw refused(
      'EGRESS_DENIED',
      'web pages may not call: Origin and Sec-Fetch-Site are taken with an execution token only',
      'header_forbidden',
    );
  const isOriginForm = url?.startsWith('/') === true;
  if (isOriginForm && !insecure && !valuesOf(rawHeaders, 'host').every(isLoopback))
    throw refused(
      'EGRESS_DENIED',
      'without an execution token this proxy is called as localhost, 127.0.0.1 or [::1]',
      'host_mismatch',
    );
}

function isLoopback(host: string): boolean {
  return LOOPBACK_HOST.test(host);
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
