import { createHash, timingSafeEqual } from 'node:crypto';
import { OutriderError } from '#core/errors';
import type { HttpRequest } from '#core/http-exchange';
import type { Principal } from '#core/principal';
import {
  CLOCK_TOLERANCE_S,
  type ExecutionVerifier,
  type Proof,
  type ProofVerifier,
  TOKEN_LIFE_S,
  type VerifiedExecution,
} from '#core/tokens';
import { isReason, REASONS, type Reason } from '#policies';
import { channelOf } from './channel.ts';
import type { ProofsOfKeys } from './dpop.ts';
import { valuesOf } from './headers.ts';
import { refused } from './refusal.ts';
import type { Revocations } from './revocations.ts';
import { type OnceStore, UsedOnce } from './used-once.ts';

/** What two signatures prove: the runner's, that an exec runs; the gateway's, on whose behalf. */
export interface Identity {
  readonly execution: VerifiedExecution;
  readonly principal: Principal;
  /** The only role that the gateway lets the exec have; empty: any of the principal's. */
  readonly grantedRole: string;
}

/** What of a request says who calls; over HTTP/2 `url` is absolute. */
export type CallerRequest = Pick<HttpRequest, 'rawHeaders' | 'socket' | 'method' | 'url'>;

export interface Identifier {
  /**
   * As `identify`, where nothing need be verified for it: the same token came on this connection before. Undefined otherwise.
   * @throws {OutriderError} as `identify`
   */
  known(request: CallerRequest): Identity | undefined;
  /**
   * Who calls, from `Proxy-Authorization`, and the proof of a key where the token asks for one. It does not say what the caller may do:
   * the role in the token is a claim. A token for one request is used up by it, whatever becomes of the request.
   * @throws {OutriderError} UNAUTHENTICATED, TOKEN_REVOKED; EGRESS_DENIED for a web page without an execution token; RATE_LIMITED where
   * more is used once than can be remembered
   */
  identify(request: CallerRequest): Promise<Identity>;
  /**
   * Whose audit records are delivered: as `identify`, but the token may have expired up to an hour ago, since the last
   * records of an exec are delivered after its end. That it was revoked does not matter here.
   * @throws {OutriderError} UNAUTHENTICATED
   */
  identifyDelivery(request: HttpRequest): Promise<Identity>;
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
  /** Of the keys that tokens are bound to. */
  readonly keyProofs: ProofsOfKeys;
  /** What a token for one request calls this proxy. */
  readonly proxyId: string;
  /** Where such tokens are remembered; default: here. */
  readonly usedTokens?: OnceStore | undefined;
  /** Told of every verification; a hit of the cache is `cached`. */
  readonly onVerified?: (result: 'ok' | 'cached' | 'refused') => void;
}

const CACHE_MAX_TOKENS = 10_000;
const DELIVERY_GRACE_S = 3_600;
/** Tokens for one request that are remembered: as many as may be used within 70 s. */
const USED_MAX = 100_000;

/** Remembers tokens for one request. */
export function usedTokens(): UsedOnce {
  return new UsedOnce({ lifeMs: (TOKEN_LIFE_S + 2 * CLOCK_TOLERANCE_S) * 1_000, max: USED_MAX });
}

interface Cached {
  /** When its life is over, by a clock that nobody sets (`performance.now`). */
  readonly endsAt: number;
  /** Of the very text that was verified: the cache is asked by `jti`, which anybody can write into a token. */
  readonly digest: Buffer;
  readonly identity: Identity;
}

/**
 * Verifies execution tokens and the proofs inside them, and remembers the result by `jti` until the token expires. A token
 * that has a known `jti` but another text is verified in full.
 */
export function createIdentifier(options: IdentifierOptions): Identifier {
  const { executions, proofs, revocations, direct, keyProofs, onVerified = () => {} } = options;
  const cache = new Map<string, Cached>();
  /** Of requests whose token asks for no more than to be good: what asks for more is never here. */
  const lastOf = new WeakMap<object, { readonly header: string; readonly known: Cached }>();
  const used = options.usedTokens ?? usedTokens();

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

  /** Undefined where the clock says that it is not valid now: verifying it says why. A clock that was set back makes no life longer. */
  const again = (known: Cached, request: CallerRequest): Identity | undefined => {
    const { execution } = known.identity;
    if (performance.now() >= known.endsAt)
      throw refused('UNAUTHENTICATED', 'the token has expired', 'jwt_exp');
    const now = Date.now() / 1_000;
    if (execution.expiresAt <= now || execution.issuedAt > now + CLOCK_TOLERANCE_S)
      return undefined;
    revocations.assertGood(execution);
    assertBound(known.identity, request);
    onVerified('cached');
    return known.identity;
  };

  /** What is asked of a request beyond a good token. The use comes last: who lacks the key cannot use a token up. */
  const assertMayUse = async (
    { execution }: Identity,
    { token, scheme }: Shown,
    request: CallerRequest,
  ): Promise<void> => {
    const { keyThumbprint, once } = execution;
    if ((scheme === 'dpop') !== (keyThumbprint !== undefined)) throw wrongScheme(scheme);
    if (keyThumbprint !== undefined) await keyProofs.verify(request, { token, keyThumbprint });
    if (once !== undefined) await assertFirstUse(execution);
  };

  const assertFirstUse = async ({ once, issuer, tokenId }: VerifiedExecution): Promise<void> => {
    if (once !== options.proxyId)
      throw refused(
        'UNAUTHENTICATED',
        'the token is for one request at another proxy, or at this one before it started again',
        'jwt_jti_replay',
      );
    const use = await used.use(`${issuer} ${tokenId}`);
    if (use === 'again')
      throw refused('UNAUTHENTICATED', REASONS.jwt_jti_replay.text, 'jwt_jti_replay');
    if (use === 'full')
      throw refused('RATE_LIMITED', 'too many tokens for one request: try later', 'rate_limited', {
        retryAfterMs: TOKEN_LIFE_S * 1_000,
      });
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
      const given = shownIn(header);
      const local = given?.scheme === 'dpop' ? undefined : direct.identify(given?.token, request);
      if (local) return local;
      const shown = needed(given);
      const { token } = shown;
      const known = remembered(cache, token);
      const before = known && again(known, request);
      if (before && isPlain(before, shown)) {
        lastOf.set(request.socket, { header: header ?? '', known });
        return before;
      }
      const identity = before ?? (await verify(token));
      revocations.assertGood(identity.execution);
      assertBound(identity, request);
      if (!isPlain(identity, shown)) await assertMayUse(identity, shown, request);
      if (!before && identity.execution.once === undefined)
        remember(cache, {
          endsAt: known?.endsAt ?? endOf(identity),
          digest: digestOf(token),
          identity,
        });
      return identity;
    },

    async identifyDelivery(request) {
      const shown = needed(shownIn(headerOf(request)));
      const { token } = shown;
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
      // It is for a request, and records are delivered again until they are acknowledged.
      if (identity.execution.once !== undefined)
        throw refused('UNAUTHENTICATED', 'a token for one request delivers none', 'jwt_invalid');
      if (!isPlain(identity, shown)) await assertMayUse(identity, shown, request);
      return identity;
    },
  };
}

/** Whether a token is good for any number of requests by whoever shows it over the right connection, and is shown as that. */
function isPlain({ execution }: Identity, { scheme }: Shown): boolean {
  return (
    scheme === 'bearer' && execution.keyThumbprint === undefined && execution.once === undefined
  );
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
function assertBound({ execution }: Identity, request: Pick<HttpRequest, 'socket'>): void {
  if (execution.certificateThumbprint !== channelOf(request))
    throw refused(
      'UNAUTHENTICATED',
      'the token is bound to another connection',
      'jwt_cnf_mismatch',
    );
}

/** A token that is bound to a key is none of a bearer's (RFC 9449, 7.1), and any other has no key to prove. */
function wrongScheme(scheme: Shown['scheme']): OutriderError {
  const message =
    scheme === 'dpop'
      ? 'the token is bound to no key: send it as Bearer'
      : 'the token is bound to a key: send it as DPoP, with a proof';
  return refused('UNAUTHENTICATED', message, 'jwt_dpop_mismatch');
}

function needed(shown: Shown | undefined): Shown {
  if (shown === undefined)
    throw refused('UNAUTHENTICATED', 'an execution token is needed', 'jwt_missing');
  return shown;
}

/** The one header that says who calls; undefined where it is not there. @throws {OutriderError} UNAUTHENTICATED */
function headerOf({ rawHeaders }: Pick<HttpRequest, 'rawHeaders'>): string | undefined {
  const values = valuesOf(rawHeaders, 'proxy-authorization');
  if (values.length > 1)
    throw refused(
      'UNAUTHENTICATED',
      'the execution token is given more than once',
      'jwt_header_duplicate',
    );
  return values[0];
}

/** A token, and how it is said that its sender may use it. */
interface Shown {
  readonly token: string;
  readonly scheme: 'bearer' | 'dpop';
}

/** The token in it; undefined where none was sent. @throws {OutriderError} UNAUTHENTICATED */
function shownIn(header: string | undefined): Shown | undefined {
  if (header === undefined) return undefined;
  const [, scheme, token] = /^(Bearer|DPoP) ([\w.-]+)$/i.exec(header) ?? [];
  if (scheme === undefined || token === undefined)
    throw refused('UNAUTHENTICATED', 'the token is not valid here', 'jwt_encoding');
  return { token, scheme: scheme.toLowerCase() === 'dpop' ? 'dpop' : 'bearer' };
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

function endOf({ execution }: Identity): number {
  return performance.now() + (execution.expiresAt + CLOCK_TOLERANCE_S) * 1_000 - Date.now();
}

function digestOf(token: string): Buffer {
  return createHash('sha256').update(token).digest();
}

/** Entries that are over go first where the map is full, then the oldest. */
function remember(cache: Map<string, Cached>, entry: Cached): void {
  if (cache.size >= CACHE_MAX_TOKENS) {
    const now = performance.now();
    for (const [jti, { endsAt }] of cache) if (endsAt <= now) cache.delete(jti);
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
