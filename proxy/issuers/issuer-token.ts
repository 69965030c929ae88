import { errors, type JWTPayload, jwtVerify } from 'jose';
import { OutriderError } from '#core/errors';
import type { Logger } from '#core/log';
import type { Principal } from '#core/principal';
import { REASONS, type Reason } from '#policies';
import type { ProxyConfig } from '../config.ts';
import { refused } from '../refusal.ts';
import { assertSafeUrl, fetchKeys } from './fetch-keys.ts';
import { createKeySource, KeysUnavailable } from './key-source.ts';

export type IssuerConfig = ProxyConfig['issuers'][number];

/** Verifies access tokens of the configured identity providers. */
export interface IssuerVerifier {
  /** On whose behalf a token speaks. @throws {OutriderError} UNAUTHENTICATED; UPSTREAM_UNREACHABLE where its keys cannot be had now */
  verify(token: string): Promise<Principal>;
  /** For each issuer whose keys are not there, what a person should know. */
  readonly problems: () => Readonly<Record<string, string>>;
}

const CLOCK_TOLERANCE_S = 5;
const TOKEN_MAX_CHARACTERS = 16_384;

/**
 * The unverified `iss` chooses which configured issuer is tried; its keys, algorithms, audience and groups are those of the
 * configuration, never of the token (RFC 9068, RFC 8725). Keys come from `jwks`, or by discovery.
 * @throws {OutriderError} CONFIG_INVALID
 */
export function createIssuerVerifier(
  issuers: readonly IssuerConfig[],
  log: Logger,
): IssuerVerifier {
  const known = new Map(
    issuers.map((issuer) => {
      assertSafeUrl(issuer.jwks ?? issuer.issuer, issuer.issuer);
      const source = createKeySource({
        issuer: issuer.issuer,
        fetch: () => fetchKeys({ issuer: issuer.issuer, jwks: issuer.jwks }),
        cooldownMs: issuer.jwksCooldown,
        maxAgeMs: issuer.jwksMaxAge,
        log,
      });
      return [issuer.issuer, { issuer, source }];
    }),
  );
  return {
    async verify(token) {
      const chosen = known.get(unverifiedIssuer(token));
      if (!chosen) throw bad('jwt_iss');
      const { issuer, source } = chosen;
      const payload = await verified(token, issuer, source.get);
      const principal = principalOf(payload, issuer);
      const { groups } = issuer;
      if (groups.length > 0 && !groups.some((group) => principal.groups.includes(group)))
        throw refused('ROLE_DENIED', 'the caller is in none of the groups that may', 'role_denied');
      return principal;
    },
    problems: () =>
      Object.fromEntries(
        [...known].flatMap(([name, { source }]) => {
          const problem = source.problem();
          return problem === undefined ? [] : [[name, problem]];
        }),
      ),
  };
}

async function verified(
  token: string,
  issuer: IssuerConfig,
  keys: ReturnType<typeof createKeySource>['get'],
): Promise<JWTPayload> {
  try {
    const { payload, protectedHeader } = await jwtVerify(token, keys, {
      issuer: issuer.issuer,
      audience: issuer.audience,
      algorithms: [...issuer.algorithms],
      requiredClaims: ['exp', 'sub'],
      clockTolerance: CLOCK_TOLERANCE_S,
    });
    // Tokens of the mesh itself, and those that say nothing of access, stand for nobody here (RFC 8725 3.11).
    const type = protectedHeader.typ?.toLowerCase().replace(/^application\//, '') ?? 'jwt';
    if (!['jwt', 'at+jwt'].includes(type)) throw bad('jwt_typ');
    return payload;
  } catch (error) {
    if (error instanceof KeysUnavailable)
      throw refused(
        'UPSTREAM_UNREACHABLE',
        REASONS.jwt_jwks_unavailable.text,
        'jwt_jwks_unavailable',
        { because: error, status: 503, retryAfterMs: 1_000 },
      );
    if (error instanceof OutriderError) throw error;
    throw bad(reasonOf(error), error);
  }
}

function bad(reason: Reason, because?: unknown) {
  const message =
    reason === 'jwt_exp' ? 'the token has expired' : 'the token is not one that is taken here';
  return refused('UNAUTHENTICATED', message, reason, { because });
}

function principalOf(payload: JWTPayload, issuer: IssuerConfig): Principal {
  const { sub } = payload;
  // A JWT may carry anything: an absent or empty subject would be one principal for many.
  if (typeof sub !== 'string' || sub === '') throw bad('jwt_invalid');
  const tenant = issuer.tenantClaim === undefined ? undefined : payload[issuer.tenantClaim];
  const groups = payload[issuer.groupsClaim];
  return {
    issuer: issuer.issuer,
    subject: sub,
    tenant: typeof tenant === 'string' ? tenant : '',
    groups: [groups].flat().filter((item): item is string => typeof item === 'string'),
    claims: Object.fromEntries(
      issuer.claims.flatMap((name) => {
        const value = payload[name];
        return typeof value === 'string' ? [[name, value]] : [];
      }),
    ),
  };
}

function unverifiedIssuer(token: string): string {
  const parts = token.split('.');
  if (parts.length !== 3) throw bad('jwt_encoding');
  if (token.length > TOKEN_MAX_CHARACTERS) throw bad('jwt_too_large');
  try {
    const payload: unknown = JSON.parse(Buffer.from(parts[1] ?? '', 'base64url').toString('utf8'));
    return typeof payload === 'object' &&
      payload !== null &&
      'iss' in payload &&
      typeof payload.iss === 'string'
      ? payload.iss
      : '';
  } catch {
    throw bad('jwt_encoding');
  }
}

const REASON_OF_CLAIM: Readonly<Record<string, Reason>> = {
  aud: 'jwt_aud',
  iss: 'jwt_iss',
  exp: 'jwt_exp_missing',
  nbf: 'jwt_nbf',
};

function reasonOf(error: unknown): Reason {
  if (error instanceof errors.JWTExpired) return 'jwt_exp';
  if (error instanceof errors.JWTClaimValidationFailed)
    return REASON_OF_CLAIM[error.claim] ?? 'jwt_invalid';
  if (error instanceof errors.JOSEAlgNotAllowed) return 'jwt_alg_confusion';
  if (error instanceof errors.JWKSNoMatchingKey) return 'jwt_kid_unknown';
  if (error instanceof errors.JOSENotSupported) return 'jwt_crit';
  return 'jwt_invalid';
}
