import { isLoopback } from '#core/address';
import { OutriderError } from '#core/errors';
import type { Logger } from '#core/log';
import { LOCAL_PRINCIPAL } from '#core/principal';
import type { GatewayConfig } from '../config.ts';
import { createIssuerVerifier, type TokenVerdict } from './issuer-token.ts';
import { readLocalToken } from './local-token.ts';

/** Says who sent a request, by its `Authorization` header. Never throws for anything that a caller can send. */
export type Authenticate = (authorization: string | undefined) => Promise<TokenVerdict>;

/**
 * The local token and the tokens of the configured issuers; everybody where `insecure` is set.
 * @throws {OutriderError} CONFIG_INVALID where nobody could ever be let in, or everybody from everywhere
 */
export function createAuthenticator(
  config: Pick<GatewayConfig, 'listen' | 'insecure' | 'localTokenFile' | 'issuers'>,
  log: Logger,
): Authenticate {
  if (config.insecure) {
    if (!isLoopback(config.listen))
      throw new OutriderError(
        'CONFIG_INVALID',
        'gateway.insecure is possible on a loopback address only: change gateway.listen, or configure a token or an issuer',
      );
    return async () => ({ ok: true, principal: LOCAL_PRINCIPAL });
  }
  const isLocal = readLocalToken(config.localTokenFile);
  if (!isLocal && config.issuers.length === 0)
    throw new OutriderError(
      'CONFIG_INVALID',
      `nobody could be let in: ${config.localTokenFile} does not exist and gateway.issuers is empty; start the mesh with \`outrider up\`, or configure an issuer`,
    );
  const verifyIssued = createIssuerVerifier(config.issuers, log);

  return async (authorization) => {
    if (authorization === undefined) return { ok: false, reason: 'missing', scopes: [] };
    const token = /^bearer +([\x21-\x7e]+) *$/i.exec(authorization)?.[1];
    if (token === undefined) return { ok: false, reason: 'malformed', scopes: [] };
    if (isLocal?.(token)) return { ok: true, principal: LOCAL_PRINCIPAL };
    return verifyIssued(token);
  };
}
