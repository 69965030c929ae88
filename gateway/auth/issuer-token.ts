import { errors, type JWTPayload, jwtVerify } from 'jose';
import type { Logger } from '#core/log';
import type { Principal } from '#core/principal';
import type { IssuerConfig } from '../config.ts';
import type { AuthFailure } from './challenge.ts';
import { createKeySource } from './key-source.ts';

/** Who a token stands for, or why it stands for nobody. `scopes` are those that its issuer's tokens must have. */
export type TokenVerdict =
  | { readonly ok: true; readonly principal: Principal }
  | {
      readonly ok: false;
      readonly reason: AuthFailure;
      readonly scopes: readonly string[];
      readonly cause?: unknown;
    };

const CLOCK_TOLERANCE_S = 5;
const TOKEN_MAX_CHARACTERS = 16_384;

/**
 * Verifies JWT access tokens of the configured issuers (RFC 9068, RFC 8725). The unverified `iss` chooses which configured
 * issuer is tried; its keys, algorithms and audience are those of the configuration, never of the token.
 * @throws {OutriderError} CONFIG_INVALID
 */
export function createIssuerVerifier(
  issuers: readonly IssuerConfig[],
  log: Logger,
): (token: string) => Promise<TokenVerdict> {
  const known = new Map(
    issuers.map((issuer) => [issuer.issuer, { issuer, keys: createKeySource(issuer, log) }]),
  );
  return async (token) => {
    const chosen = known.get(unverifiedIssuer(token));
    if (!chosen) return { ok: false, reason: 'unknown', scopes: [] };
    const { issuer, keys } = chosen;
    try {
      const { payload } = await jwtVerify(token, keys, {
        issuer: issuer.issuer,
        audience: issuer.audience,
        algorithms: [...issuer.algorithms],
        requiredClaims: ['exp', 'sub'],
        clockTolerance: CLOCK_TOLERANCE_S,
      });
      const scopes = scopesOf(payload);
      if (!issuer.scopes.every((scope) => scopes.has(scope)))
        return { ok: false, reason: 'scope', scopes: issuer.scopes };
      // A JWT may carry anything: an absent or empty subject would be one principal for many.
      if (typeof payload.sub !== 'string' || payload.sub === '')
        return { ok: false, reason: 'claims', scopes: issuer.scopes };
      return { ok: true, principal: principalOf(payload, payload.sub, issuer) };
    } catch (error) {
      return { ok: false, reason: reasonOf(error), scopes: issuer.scopes, cause: error };
    }
  };
}

function principalOf(payload: JWTPayload, subject: string, issuer: IssuerConfig): Principal {
  const tenant = issuer.tenantClaim === undefined ? undefined : payload[issuer.tenantClaim];
  const groups = payload[issuer.groupsClaim];
  return {
    issuer: issuer.issuer,
    subject,
    tenant: typeof tenant === 'string' ? tenant : '',
    groups: texts(typeof groups === 'string' ? [groups] : groups),
    claims: Object.fromEntries(
      issuer.claims.flatMap((name) => {
        const value = payload[name];
        return typeof value === 'string' ? [[name, value]] : [];
      }),
    ),
  };
}

/** `scope` of RFC 8693, a text with spaces, or the `scp` of some providers, a text or a list. */
function scopesOf(payload: JWTPayload): ReadonlySet<string> {
  const claimed = [payload['scope'], payload['scp']].flat();
  return new Set(texts(claimed).flatMap((text) => text.split(' ')));
}

function texts(value: unknown): string[] {
  return Array.isArray(value)
    ? value.filter((item): item is string => typeof item === 'string' && item !== '')
    : [];
}

function unverifiedIssuer(token: string): string {
  const parts = token.split('.');
  if (parts.length !== 3 || token.length > TOKEN_MAX_CHARACTERS) return '';
  try {
    const payload: unknown = JSON.parse(Buffer.from(parts[1] ?? '', 'base64url').toString('utf8'));
    return typeof payload === 'object' &&
      payload !== null &&
      'iss' in payload &&
      typeof payload.iss === 'string'
      ? payload.iss
      : '';
  } catch {
    return '';
  }
}

/** What is the token's fault, as the caller is told; anything else is the fault of the way to the keys. */
function reasonOf(error: unknown): AuthFailure {
  if (error instanceof errors.JWTExpired) return 'expired';
  if (error instanceof errors.JWTClaimValidationFailed)
    return error.claim === 'nbf' ? 'not_yet_valid' : 'claims';
  if (
    error instanceof errors.JWSSignatureVerificationFailed ||
    error instanceof errors.JWKSNoMatchingKey ||
    error instanceof errors.JWKSMultipleMatchingKeys ||
    error instanceof errors.JOSEAlgNotAllowed
  )
    return 'signature';
  if (
    error instanceof errors.JWSInvalid ||
    error instanceof errors.JWTInvalid ||
    error instanceof errors.JOSENotSupported
  )
    return 'malformed';
  return 'keys_unavailable';
}
