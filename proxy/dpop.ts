import { createHash } from 'node:crypto';
import { TLSSocket } from 'node:tls';
import {
  calculateJwkThumbprint,
  decodeProtectedHeader,
  EmbeddedJWK,
  type JWTPayload,
  jwtVerify,
} from 'jose';
import { OutriderError } from '#core/errors';
import type { HttpRequest } from '#core/http-exchange';
import { isRecord } from '#core/is-record';
import { ISSUER_ALGORITHMS } from '#core/issued-tokens';
import { CLOCK_TOLERANCE_S } from '#core/tokens';
import { valuesOf } from './headers.ts';
import { refused } from './refusal.ts';
import { type OnceStore, type Use, UsedOnce } from './used-once.ts';

/** How old a proof may be, in seconds. */
export const DPOP_LIFE_S = 30;
/** Proofs that are remembered, about 150 bytes each: some 2,800 a second. */
const PROOFS_MAX = 100_000;
/** A proof by a key of RSA with 8,192 bits has less. */
const PROOF_MAX_CHARACTERS = 4_096;
const JTI_MAX_CHARACTERS = 256;
/** Members of a JWK that only its owner may know (RFC 7518, 6; RFC 8037). */
const PRIVATE_MEMBERS = ['d', 'p', 'q', 'dp', 'dq', 'qi', 'oth', 'k', 'priv'];

/** What of a request a proof is held against. `url`: the request target, absolute over HTTP/2. */
export type ProvenRequest = Pick<HttpRequest, 'rawHeaders' | 'socket' | 'method' | 'url'>;

/** Which proof a request needs. */
export interface ProofWanted {
  /** The token that is shown with it, to which it must belong; absent: it is shown to get one. */
  readonly token?: string;
  /** Of the key that must have signed it; absent: any. */
  readonly keyThumbprint?: string | undefined;
}

/** Checks proofs of possession, each of which is good once. */
export interface ProofsOfKeys {
  /**
   * The thumbprint (RFC 7638) of the key that the sender of a request has, by the one `DPoP` header of it (RFC 9449, 4.3).
   * @throws {OutriderError} UNAUTHENTICATED, `jwt_dpop_mismatch` or `jwt_dpop_replay`; RATE_LIMITED where no further proof can be remembered
   */
  verify(request: ProvenRequest, wanted: ProofWanted): Promise<string>;
}

/**
 * Each proof is remembered by its key and `jti` for as long as it could be shown again, by this proxy alone; those from before this
 * process began are refused, since it may not know them. `now`: milliseconds since 1970.
 */
export function createProofsOfKeys({
  now = Date.now,
  used = usedProofs({ now }),
}: {
  readonly now?: () => number;
  readonly used?: OnceStore | undefined;
} = {}): ProofsOfKeys {
  const beganS = Math.floor(now() / 1_000);
  return {
    async verify(request, wanted) {
      const proof = proofIn(request);
      const { keyThumbprint, jti } = await asMismatch(async () => {
        const thumbprint = await keyOf(proof);
        if (wanted.keyThumbprint !== undefined && thumbprint !== wanted.keyThumbprint)
          throw new Error('it is of another key');
        const { payload } = await jwtVerify(proof, EmbeddedJWK, {
          typ: 'dpop+jwt',
          algorithms: [...ISSUER_ALGORITHMS],
          clockTolerance: CLOCK_TOLERANCE_S,
          currentDate: new Date(now()),
        });
        assertFresh(payload, now() / 1_000, beganS);
        assertFor(payload, request, wanted);
        return { keyThumbprint: thumbprint, jti: jtiOf(payload) };
      });
      // Last: what is not good must not take the place of what is.
      assertFirst(await used.use(digest(`${keyThumbprint}.${jti}`)));
      return keyThumbprint;
    },
  };
}

/** Remembers proofs, by default 100 000 at once. */
export function usedProofs({
  now,
  elapsed,
  max = PROOFS_MAX,
}: {
  readonly now?: () => number;
  readonly elapsed?: () => number;
  readonly max?: number;
} = {}): UsedOnce {
  return new UsedOnce({ lifeMs: (DPOP_LIFE_S + CLOCK_TOLERANCE_S + 1) * 1_000, max, now, elapsed });
}

/** @throws {OutriderError} UNAUTHENTICATED */
function proofIn({ rawHeaders }: Pick<ProvenRequest, 'rawHeaders'>): string {
  const [proof, ...others] = valuesOf(rawHeaders, 'dpop');
  if (proof === undefined) throw mismatch('the token needs a proof of its key: send one as DPoP');
  if (others.length > 0) throw mismatch('the proof is given more than once');
  if (proof.length > PROOF_MAX_CHARACTERS || !/^[\w-]+\.[\w-]+\.[\w-]+$/.test(proof))
    throw mismatch('the proof is no JWT');
  return proof;
}

/** Before its signature is looked at, which is by this key: RFC 7638 of the public key in its header. */
async function keyOf(proof: string): Promise<string> {
  const { jwk } = decodeProtectedHeader(proof);
  if (!isRecord(jwk)) throw new Error('it names no key');
  if (PRIVATE_MEMBERS.some((member) => Object.hasOwn(jwk, member)))
    throw new Error('its key is private');
  return calculateJwkThumbprint(jwk, 'sha256');
}

function assertFresh({ iat }: JWTPayload, nowS: number, beganS: number): void {
  if (typeof iat !== 'number') throw new Error('it does not say when it was made');
  if (iat > nowS + CLOCK_TOLERANCE_S) throw new Error('it comes from the future');
  if (iat < nowS - DPOP_LIFE_S) throw new Error('it is too old');
  if (iat < beganS) throw new Error('it was made before this proxy started');
}

function assertFor(
  { htm, htu, ath }: JWTPayload,
  request: ProvenRequest,
  { token }: ProofWanted,
): void {
  if (htm !== request.method) throw new Error('it is for another method');
  if (typeof htu !== 'string' || uriOf(htu) !== uriOf(targetUri(request)))
    throw new Error('it is for another target');
  if (token !== undefined && ath !== digest(token)) throw new Error('it is for another token');
}

function jtiOf({ jti }: JWTPayload): string {
  if (typeof jti !== 'string' || jti === '' || jti.length > JTI_MAX_CHARACTERS)
    throw new Error(`its jti is not text of 1 to ${JTI_MAX_CHARACTERS} characters`);
  return jti;
}

function assertFirst(use: Use): void {
  if (use === 'again')
    throw refused('UNAUTHENTICATED', 'the proof was used before', 'jwt_dpop_replay');
  if (use === 'full')
    throw refused('RATE_LIMITED', 'too many proofs at once: try again later', 'rate_limited', {
      retryAfterMs: DPOP_LIFE_S * 1_000,
    });
}

/** As the caller addressed it (RFC 9112, 3.3). */
function targetUri({ rawHeaders, socket, url = '' }: ProvenRequest): string {
  if (/^https?:\/\//i.test(url)) return url;
  const scheme = socket instanceof TLSSocket ? 'https' : 'http';
  // A tunnel's target is its authority alone.
  if (!url.startsWith('/')) return `${scheme}://${url}`;
  const hosts = valuesOf(rawHeaders, 'host');
  if (hosts.length !== 1) throw new Error('the request names no one host');
  return `${scheme}://${hosts[0]}${url}`;
}

/** Without query and fragment, in the one spelling (RFC 9449, 4.3; RFC 3986, 6.2.2 and 6.2.3). */
function uriOf(text: string): string {
  const { protocol, host, pathname, username, password } = new URL(text);
  if (!/^https?:$/.test(protocol) || username !== '' || password !== '')
    throw new Error('it is no address of HTTP');
  return `${protocol}//${host}${pathname}`;
}

/** SHA-256, in base64url: also what `ath` is of a token. */
function digest(text: string): string {
  return createHash('sha256').update(text).digest('base64url');
}

/** Which of its faults a proof has is for the log alone. */
async function asMismatch<T>(check: () => Promise<T>): Promise<T> {
  try {
    return await check();
  } catch (error) {
    if (error instanceof OutriderError) throw error;
    throw mismatch('the proof does not belong to the token and the request', error);
  }
}

function mismatch(message: string, because?: unknown): OutriderError {
  return refused('UNAUTHENTICATED', message, 'jwt_dpop_mismatch', { because });
}
