import { errors, type JWTPayload, jwtVerify } from 'jose';
import { OutriderError } from '#core/errors';
import { assertSafePlace, fetchIssuerKeys } from '#core/fetch-issuer-keys';
import { isAccessTokenType, issuedPrincipal, unverifiedIssuer } from '#core/issued-tokens';
import { createIssuerKeys, type IssuerKeys, KeysUnavailable } from '#core/issuer-keys';
import type { Logger } from '#core/log';
import type { Principal } from '#core/principal';
import { type Bound, boundTo, CLOCK_TOLERANCE_S } from '#core/tokens';
import { REASONS, type Reason } from '#policies';
import type { ProxyConfig } from '../config.ts';
import { refused } from '../refusal.ts';

export type IssuerConfig = ProxyConfig['issuers'][number];

/** On whose behalf a token speaks, and what whoever shows it must have. */
export interface Issued {
  readonly principal: Principal;
  /** Not checked yet: it is about the request. */
  readonly bound: Bound;
  /** Whether the issuer's `groups`, where it has some, let the caller in. */
  readonly mayCall: boolean;
}

/** Verifies access tokens of the configured identity providers. */
export interface IssuerVerifier {
  /** @throws {OutriderError} UNAUTHENTICATED; UPSTREAM_UNREACHABLE where its keys cannot be had now */
  verify(token: string): Promise<Issued>;
  /** For each issuer whose keys cannot be had now, what a person should know; asking fetches what is not there. */
  readonly problems: () => Promise<Readonly<Record<string, string>>>;
}

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
      assertSafePlace(issuer);
      const source = createIssuerKeys({
        issuer: issuer.issuer,
        fetch: () => fetchIssuerKeys(issuer),
        cooldownMs: issuer.jwksCooldown,
        maxAgeMs: issuer.jwksMaxAge,
        log,
      });
      return [issuer.issuer, { issuer, source }];
    }),
  );
  return {
    async verify(token) {
      const claimed = unverifiedIssuer(token);
      if ('fault' in claimed) throw bad(claimed.fault);
      const chosen = known.get(claimed.issuer);
      if (!chosen) throw bad('jwt_iss');
      const { issuer, source } = chosen;
      const payload = await verified(token, issuer, source.get);
      const principal = issuedPrincipal(payload, issuer);
      if (!principal) throw bad('jwt_invalid');
      const { groups } = issuer;
      const mayCall = groups.length === 0 || groups.some((one) => principal.groups.includes(one));
      return { principal, bound: boundBy(payload), mayCall };
    },
    async problems() {
      const asked = [...known].map(async ([name, { source }]) => [name, await source.problem()]);
      const answers = await Promise.all(asked);
      return Object.fromEntries(answers.filter(([, problem]) => problem !== undefined));
    },
  };
}

async function verified(
  token: string,
  issuer: IssuerConfig,
  keys: IssuerKeys['get'],
): Promise<JWTPayload> {
  try {
    const { payload, protectedHeader } = await jwtVerify(token, keys, {
      issuer: issuer.issuer,
      audience: issuer.audience,
      algorithms: [...issuer.algorithms],
      requiredClaims: ['exp', 'sub'],
      clockTolerance: CLOCK_TOLERANCE_S,
    });
    if (!isAccessTokenType(protectedHeader.typ)) throw bad('jwt_typ'); // such as one of the mesh itself
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

/** @throws {OutriderError} UNAUTHENTICATED */
function boundBy(payload: JWTPayload): Bound {
  try {
    return boundTo(payload);
  } catch (error) {
    throw bad('jwt_cnf_mismatch', error);
  }
}

function bad(reason: Reason, because?: unknown) {
  const message =
    reason === 'jwt_exp' ? 'the token has expired' : 'the token is not one that is taken here';
  return refused('UNAUTHENTICATED', message, reason, { because });
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
