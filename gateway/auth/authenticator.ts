import { OutriderError } from '#core/errors';
import { readLocalToken } from '#core/local-token';
import type { Logger } from '#core/log';
import { LOCAL_PRINCIPAL } from '#core/principal';
import type { GatewayConfig } from '../config.ts';
import { createIssuerVerifier } from './issuer-token.ts';
import { readStaticTokens } from './static-tokens.ts';
import type { TokenVerdict } from './token-claims.ts';

const USUALLY = 'Bearer ';

/** Says who sent a request, by its `Authorization` header. At once where nobody has to be asked. Never throws for anything that a caller can send. */
export type Authenticate = (
  authorization: string | undefined,
) => TokenVerdict | Promise<TokenVerdict>;

export interface Authenticator {
  readonly authenticate: Authenticate;
  /** What must be known before anybody can be let in. @throws {OutriderError} ERR_OAUTH_PROVIDER | CONFIG_INVALID */
  ready(): Promise<void>;
}

/**
 * The local token, static tokens and the tokens of the configured issuers; everybody where `insecure` is set, which is for an address
 * that no other machine can reach.
 * @throws {OutriderError} CONFIG_INVALID where nobody could ever be let in
 */
export function createAuthenticator(
  config: Pick<GatewayConfig, 'insecure' | 'localTokenFile' | 'staticTokens' | 'issuers'>,
  log: Logger,
): Authenticator {
  if (config.insecure) {
    const authenticate: Authenticate = () => ({ ok: true, principal: LOCAL_PRINCIPAL });
    return { authenticate, ready: async () => {} };
  }
  const isLocal = readLocalToken(config.localTokenFile);
  const staticTokens =
    config.staticTokens === undefined ? undefined : readStaticTokens(config.staticTokens);
  if (!isLocal && !staticTokens && config.issuers.length === 0)
    throw new OutriderError(
      'CONFIG_INVALID',
      `nobody could be let in: ${config.localTokenFile} does not exist and gateway.issuers is empty; start the mesh with \`outrider up\`, or configure an issuer`,
    );
  const issued = createIssuerVerifier(config.issuers, log);

  const authenticate: Authenticate = (authorization) => {
    if (authorization === undefined) return { ok: false, reason: 'missing', scopes: [] };
    // Nearly all of them: as it is written here, and verified a moment ago.
    const before = authorization.startsWith(USUALLY)
      ? issued.known(authorization.slice(USUALLY.length))
      : undefined;
    if (before) return { ok: true, principal: before };
    const token = /^bearer +([\x21-\x7e]+) *$/i.exec(authorization)?.[1];
    if (token === undefined) return { ok: false, reason: 'malformed', scopes: [] };
    const principal = issued.known(token);
    if (principal) return { ok: true, principal };
    if (isLocal?.(token)) return { ok: true, principal: LOCAL_PRINCIPAL };
    return staticTokens?.(token) ?? issued.verify(token);
  };
  return { authenticate, ready: () => issued.ready() };
}
