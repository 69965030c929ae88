import { errors, type JWTVerifyGetKey, jwtVerify } from 'jose';
import { assertAll } from '#core/config-problems';
import { OutriderError, toOutriderError } from '#core/errors';
import {
  ISSUED_TOKEN_MAX_CHARACTERS,
  isAccessTokenType,
  unverifiedIssuer,
} from '#core/issued-tokens';
import { assertIssuerList } from '#core/issuer-list';
import type { Logger } from '#core/log';
import type { Principal } from '#core/principal';
import { CLOCK_TOLERANCE_S } from '#core/tokens';
import type { IssuerConfig } from '../config.ts';
import type { AuthFailure } from './challenge.ts';
import { createIntrospection, introspectionOf, reachIntrospection } from './introspection.ts';
import { createKeySource, keysPlace } from './key-source.ts';
import { grantedTo, type TokenVerdict } from './token-claims.ts';
import { VerdictCache } from './verdict-cache.ts';

/** Verifies what the configured issuers have issued. */
export interface IssuerVerifier {
  /** Whom a token stands for that was verified within 5 s; undefined says nothing. */
  known(token: string): Principal | undefined;
  verify(token: string): Promise<TokenVerdict>;
  /**
   * Finds out what the issuers publish about themselves, and whether those answer that are to be asked about tokens.
   * @throws {OutriderError} ERR_OAUTH_PROVIDER | CONFIG_INVALID
   */
  ready(): Promise<void>;
}

/**
 * Verifies access tokens of the configured issuers: JWTs (RFC 9068, RFC 8725), or whatever an issuer with introspection says is
 * its own. The unverified `iss` chooses which configured issuer is tried; its keys, algorithms and audience are those of the
 * configuration, never of the token.
 * @throws {OutriderError} CONFIG_INVALID
 */
export function createIssuerVerifier(
  issuers: readonly IssuerConfig[],
  log: Logger,
): IssuerVerifier {
  assertIssuers(issuers);
  const asked = issuers.filter(({ introspection }) => introspection !== undefined);
  const signing = issuers
    .filter(({ introspection }) => introspection === undefined)
    .map((issuer) => ({ issuer, source: createKeySource(issuer, log) }));
  const cache = new VerdictCache();
  const verifiers = new Map(
    signing.map(({ issuer, source }) => [issuer.issuer, jwtVerifier(issuer, source.keys, cache)]),
  );
  const [introspected] = asked;
  const introspect = introspected && createIntrospection(introspected);
  return {
    known: (token) => cache.get(token),
    async verify(token) {
      const claimed = unverifiedIssuer(token);
      const verify = ('issuer' in claimed && verifiers.get(claimed.issuer)) || introspect;
      if (!verify || token.length > ISSUED_TOKEN_MAX_CHARACTERS)
        return { ok: false, reason: 'unknown', scopes: [] };
      return verify(token);
    },
    async ready() {
      await Promise.all([
        ...signing.map(({ issuer, source }) => reached(issuer, source.ready())),
        ...asked.map((issuer) => reached(issuer, reachIntrospection(issuer))),
      ]);
    },
  };
}

/** What is wrong with issuers, as far as the configuration alone shows it. @throws {OutriderError} CONFIG_INVALID */
export function assertIssuers(issuers: readonly IssuerConfig[]): void {
  const asked = issuers.filter(({ introspection }) => introspection !== undefined);
  if (asked.length > 1)
    throw new OutriderError(
      'CONFIG_INVALID',
      'gateway.issuers: one issuer at most can have introspection, since a token that nobody else can read does not say whose it is',
    );
  assertAll(
    () =>
      assertIssuerList(
        'gateway.issuers',
        issuers.filter(({ introspection }) => introspection === undefined),
      ),
    ...issuers.map(
      (issuer) => () =>
        issuer.introspection === undefined ? keysPlace(issuer) : introspectionOf(issuer),
    ),
  );
}

/** @throws {OutriderError} ERR_OAUTH_PROVIDER where it is not the configuration that is wrong */
async function reached({ issuer }: IssuerConfig, answer: Promise<void>): Promise<void> {
  try {
    await answer;
  } catch (thrown) {
    const cause = toOutriderError(thrown);
    if (cause.code === 'CONFIG_INVALID') throw cause;
    throw new OutriderError(
      'ERR_OAUTH_PROVIDER',
      `the identity provider ${issuer} of gateway.issuers did not answer as it should: see that it runs, that its certificate is one that this machine trusts, and that the client and secret are right`,
      { cause },
    );
  }
}

function jwtVerifier(
  issuer: IssuerConfig,
  keys: JWTVerifyGetKey,
  cache: VerdictCache,
): (token: string) => Promise<TokenVerdict> {
  return async (token) => {
    try {
      const { payload, protectedHeader } = await jwtVerify(token, keys, {
        issuer: issuer.issuer,
        audience: issuer.audience,
        algorithms: [...issuer.algorithms],
        requiredClaims: ['exp', 'sub'],
        clockTolerance: CLOCK_TOLERANCE_S,
      });
      if (!isAccessTokenType(protectedHeader.typ))
        return { ok: false, reason: 'type', scopes: issuer.scopes };
      const verdict = grantedTo(payload, issuer);
      if (verdict.ok) cache.set(token, verdict.principal, (payload.exp ?? 0) * 1_000);
      return verdict;
    } catch (error) {
      const reason = reasonOf(error);
      // By then they may be fetched again.
      const retryAfterMs = reason === 'keys_unavailable' ? issuer.jwksCooldown : undefined;
      return { ok: false, reason, scopes: issuer.scopes, cause: error, retryAfterMs };
    }
  };
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
