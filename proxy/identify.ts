import { createHash, timingSafeEqual } from 'node:crypto';
import type { IncomingMessage } from 'node:http';
import { OutriderError } from '#core/errors';
import type { Principal } from '#core/principal';
import type { ExecutionVerifier, Proof, ProofVerifier, VerifiedExecution } from '#core/tokens';
import { isReason, type Reason } from '#policies';
import { channelOf } from './channel.ts';
import { valuesOf } from './headers.ts';
import { refused } from './refusal.ts';
import type { Revocations } from './revocations.ts';

/** What two signatures prove: the runner's, that an exec runs; the gateway's, on whose behalf. */
export interface Identity {
  readonly execution: VerifiedExecution;
  readonly principal: Principal;
  /** The only role that the gateway lets the exec have; empty: any of the principal's. */
  readonly grantedRole: string;
}

/** What of a request says who calls; `url` is absent over HTTP/2, which names its host in any case. */
export type CallerRequest = Pick<IncomingMessage, 'rawHeaders' | 'socket'> &
  Partial<Pick<IncomingMessage, 'url'>>;

export interface Identifier {
  /**
   * As `identify`, where nothing need be verified for it: the same token came on this connection before. Undefined otherwise.
   * @throws {OutriderError} as `identify`
   */
  known(request: CallerRequest): Identity | undefined;
  /**
   * Who calls, from `Proxy-Authorization` alone. It does not say what the caller may do: the role in the token is a claim.
   * @throws {OutriderError} UNAUTHENTICATED, TOKEN_REVOKED; EGRESS_DENIED for a web page without an execution token
   */
  identify(request: CallerRequest): Promise<Identity>;
  /**
   * Whose audit records are delivered: as `identify`, but the token may have expired up to an hour ago, since the last
   * records of an exec are delivered after its end. That it was revoked does not matter here.
   * @throws {OutriderError} UNAUTHENTICATED
   */
  identifyDelivery(request: IncomingMessage): Promise<Identity>;
}

/** Says whether somebody may call without an execution token, and as whom. */
export interface DirectCallers {
  /** The local principal, where `token` (undefined: none was sent) is good for it; undefined where it is not. @throws {OutriderError} ROLE_DENIED, ROLE_AMBIGUOUS; EGRESS_DENIED for a web page */
  identify(token: string | undefined, request: CallerRequest): Identity | undefined;
}

export interface IdentifierOptions {
  readonly executions: ExecutionVerifier;
  readonly proofs: ProofVerifier;
  /** Held against every token, also one that is remembered. */
  readonly revocations: Pick<Revocations, 'assertGood'>;
  /** Who may call without an execution token. */
  readonly direct: DirectCallers;
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
  const { executions, proofs, revocations, direct, onVerified = () => {} } = options;
  const cache = new Map<string, Cached>();
  const lastOf = new WeakMap<object, { readonly header: string; readonly known: Cached }>();

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

  const again = (known: Cached, request: CallerRequest): Identity | undefined => {
    const { execution } = known.identity;
    if (execution.expiresAt <= Date.now() / 1_000) return undefined;
    revocations.assertGood(execution);
    assertBound(known.identity, request);
    onVerified('cached');
    return known.identity;
  };

  return {
    known(request) {
      const header = headerOf(request);
      const last = lastOf.get(request.socket);
      // The same text again on the same connection: nothing of it need be read to find what it was verified as.
      return last && last.header === header ? again(last.known, request) : undefined;
    },

    async identify(request) {
      const header = headerOf(request);
      const given = bearerOf(header);
      const local = direct.identify(given, request);
      if (local) return local;
      const token = needed(given);
      const known = remembered(cache, token);
      const before = known && again(known, request);
      if (before) {
        lastOf.set(request.socket, { header: header ?? '', known });
        return before;
      }
      const identity = await verify(token);
      revocations.assertGood(identity.execution);
      assertBound(identity, request);
      remember(cache, { digest: digestOf(token), identity });
      return identity;
    },

    async identifyDelivery(request) {
      const token = needed(bearerOf(headerOf(request)));
      const { iat, exp } = unverifiedClaims(token);
      const now = Date.now() / 1_000;
      // The signature covers both; only a token that was valid, and not too long ago, is checked as of its own beginning.
      const lately =
        typeof iat === 'number' &&
        typeof exp === 'number' &&
        iat <= now &&
        exp < now &&
        now <= exp + DELIVERY_GRACE_S;
      const identity = await verify(token, lately ? iat : undefined);
      assertBound(identity, request);
      return identity;
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

/**
 * A token is good over the connection of the certificate that it is bound to, and one that is bound to none over a socket of this
 * machine alone: whoever takes it from there has no use for it (RFC 8705 3).
 */
function assertBound({ execution }: Identity, request: Pick<IncomingMessage, 'socket'>): void {
  if (execution.certificateThumbprint !== channelOf(request))
    throw refused(
      'UNAUTHENTICATED',
      'the token is bound to another connection',
      'jwt_cnf_mismatch',
    );
}

function needed(token: string | undefined): string {
  if (token === undefined)
    throw refused('UNAUTHENTICATED', 'an execution token is needed', 'jwt_missing');
  return token;
}

/** The one header that says who calls; undefined where it is not there. @throws {OutriderError} UNAUTHENTICATED */
function headerOf({ rawHeaders }: Pick<IncomingMessage, 'rawHeaders'>): string | undefined {
  const values = valuesOf(rawHeaders, 'proxy-authorization');
  if (values.length > 1)
    throw refused(
      'UNAUTHENTICATED',
      'the execution token is given more than once',
      'jwt_header_duplicate',
    );
  return values[0];
}

/** The token in it; undefined where none was sent. @throws {OutriderError} UNAUTHENTICATED */
function bearerOf(header: string | undefined): string | undefined {
  if (header === undefined) return undefined;
  const token = /^Bearer ([\w.-]+)$/i.exec(header)?.[1];
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

/** What this very text was verified as. */
function remembered(cache: ReadonlyMap<string, Cached>, token: string): Cached | undefined {
  const jti = unverifiedClaims(token)['jti'];
  const known = typeof jti === 'string' ? cache.get(jti) : undefined;
  return known && timingSafeEqual(known.digest, digestOf(token)) ? known : undefined;
}

function digestOf(token: string): Buffer {
  return createHash('sha256').update(token).digest();
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
    if ('reason' in at && typeof at.reason === 'string' && isReason(at.reason)) return at.reason;
    const code = 'code' in at ? REASON_OF_CODE[String(at.code)] : undefined;
    if (code) return code;
    const claim = 'claim' in at ? REASON_OF_CLAIM[String(at.claim)] : undefined;
    if (claim) return claim;
  }
  return 'jwt_invalid';
}
