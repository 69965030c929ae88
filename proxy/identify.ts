import { createHash, timingSafeEqual } from 'node:crypto';
import type { IncomingMessage } from 'node:http';
import { OutriderError } from '#core/errors';
import type { Principal } from '#core/principal';
import type { ExecutionVerifier, Proof, ProofVerifier, VerifiedExecution } from '#core/tokens';
import type { Reason } from '#policies';
import { valuesOf } from './headers.ts';
import { refused } from './refusal.ts';

/** What two signatures prove: the runner's, that an exec runs; the gateway's, on whose behalf. */
export interface Identity {
  readonly execution: VerifiedExecution;
  readonly principal: Principal;
  /** The only role that the gateway lets the exec have; empty: any of the principal's. */
  readonly grantedRole: string;
}

export interface Identifier {
  /**
   * Who calls, from `Proxy-Authorization` alone. It does not say what the caller may do: the role in the token is a claim.
   * @throws {OutriderError} UNAUTHENTICATED
   */
  identify(request: IncomingMessage): Promise<Identity>;
  /**
   * Whose audit records are delivered: as `identify`, but the token may have expired up to an hour ago, since the last
   * records of an exec are delivered after its end.
   * @throws {OutriderError} UNAUTHENTICATED
   */
  identifyDelivery(request: IncomingMessage): Promise<Identity>;
}

export interface IdentifierOptions {
  readonly executions: ExecutionVerifier;
  readonly proofs: ProofVerifier;
  /** Told of every verification; a hit of the cache is `cached`. */
  readonly onVerified?: (result: 'ok' | 'cached' | 'refused') => void;
}

const CACHE_MAX_TOKENS = 10_000;
const DELIVERY_GRACE_S = 3_600;
const CLOCK_TOLERANCE_S = 5;

interface Cached {
  /** Of the very text that was verified: the cache is asked by `jti`, which anybody can write into a token. */
  readonly digest: Buffer;
  readonly identity: Identity;
}

/**
 * Verifies execution tokens and the proofs inside them, and remembers the result by `jti` until the token expires. A token
 * that has a known `jti` but another text is verified in full.
 */
export function createIdentifier(options: IdentifierOptions): Identifier {
  const { executions, proofs, onVerified = () => {} } = options;
  const cache = new Map<string, Cached>();

  const verify = async (token: string, at?: number): Promise<Identity> => {
    try {
      const execution = await executions.verify(token, at);
      const { principal, role } = await verifyProof(proofs, execution);
      onVerified('ok');
      return { execution, principal, grantedRole: role };
    } catch (error) {
      onVerified('refused');
      throw refused('UNAUTHENTICATED', publicMessage(error), jwtReason(error), { because: error });
    }
  };

  return {
    async identify(request) {
      const token = bearerOf(request);
      const digest = createHash('sha256').update(token).digest();
      const jti = unverifiedClaims(token)['jti'];
      const known = typeof jti === 'string' ? cache.get(jti) : undefined;
      if (
        known !== undefined &&
        timingSafeEqual(known.digest, digest) &&
        known.identity.execution.expiresAt > Date.now() / 1_000
      ) {
        onVerified('cached');
        return known.identity;
      }
      const identity = await verify(token);
      remember(cache, { digest, identity });
      return identity;
    },

    async identifyDelivery(request) {
      const token = bearerOf(request);
      const { iat, exp } = unverifiedClaims(token);
      const now = Date.now() / 1_000;
      // The signature covers both; only a token that was valid, and not too long ago, is checked as of its own beginning.
      const lately =
        typeof iat === 'number' &&
        typeof exp === 'number' &&
        iat <= now &&
        exp < now &&
        now <= exp + DELIVERY_GRACE_S;
      return verify(token, lately ? iat : undefined);
    },
  };
}

/**
 * The proof lives 60 s and an exec longer, so it must have been valid when the exec began. That the exec has not begun later
 * than now is the runner's word, checked here; how long it may last is the role's.
 */
function verifyProof(
  proofs: ProofVerifier,
  { proof, startedAt }: VerifiedExecution,
): Promise<Proof> {
  if (startedAt > Date.now() / 1_000 + CLOCK_TOLERANCE_S)
    throw refused('UNAUTHENTICATED', 'the token is not valid here', 'jwt_iat');
  return proofs.verify(proof, startedAt);
}

function bearerOf(request: IncomingMessage): string {
  const values = valuesOf(request.rawHeaders, 'proxy-authorization');
  const [value] = values;
  if (value === undefined)
    throw refused('UNAUTHENTICATED', 'an execution token is needed', 'jwt_missing');
  if (values.length > 1)
    throw refused(
      'UNAUTHENTICATED',
      'the execution token is given more than once',
      'jwt_header_duplicate',
    );
  const token = /^Bearer ([\w.-]+)$/i.exec(value)?.[1];
  if (token === undefined)
    throw refused('UNAUTHENTICATED', 'the token is not valid here', 'jwt_encoding');
  return token;
}

/** What a token says of itself: good for choosing how to verify it, for nothing else. */
function unverifiedClaims(jwt: string): Record<string, unknown> {
  try {
    const payload: unknown = JSON.parse(
      Buffer.from(jwt.split('.')[1] ?? '', 'base64url').toString('utf8'),
    );
    return typeof payload === 'object' && payload !== null ? { ...payload } : {};
  } catch {
    return {};
  }
}

/** Expired entries go first where the map is full, then the oldest. */
function remember(cache: Map<string, Cached>, entry: Cached): void {
  if (cache.size >= CACHE_MAX_TOKENS) {
    const now = Date.now() / 1_000;
    for (const [jti, { identity }] of cache)
      if (identity.execution.expiresAt <= now) cache.delete(jti);
    const oldest = cache.keys().next().value;
    if (cache.size >= CACHE_MAX_TOKENS && oldest !== undefined) cache.delete(oldest);
  }
  cache.set(entry.identity.execution.tokenId, entry);
}

function publicMessage(error: unknown): string {
  return error instanceof OutriderError ? error.message : 'the token is not valid here';
}

/** Codes of jose, and what they are called here. */
const REASON_OF_CODE: Readonly<Record<string, Reason>> = {
  ERR_JWT_EXPIRED: 'jwt_exp',
  ERR_JOSE_ALG_NOT_ALLOWED: 'jwt_alg_confusion',
  ERR_JWKS_NO_MATCHING_KEY: 'jwt_kid_unknown',
};
const REASON_OF_CLAIM: Readonly<Record<string, Reason>> = {
  aud: 'jwt_aud',
  iss: 'jwt_iss',
  exp: 'jwt_exp_missing',
  nbf: 'jwt_nbf',
  iat: 'jwt_iat',
  typ: 'jwt_typ',
};

function jwtReason(error: unknown): Reason {
  for (let at = error; at instanceof Error; at = at.cause) {
    if ('reason' in at && at.reason === 'jwt_iat') return 'jwt_iat';
    const code = 'code' in at ? REASON_OF_CODE[String(at.code)] : undefined;
    if (code) return code;
    const claim = 'claim' in at ? REASON_OF_CLAIM[String(at.claim)] : undefined;
    if (claim) return claim;
  }
  return 'jwt_invalid';
}
