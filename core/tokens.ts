import {
  createHash,
  createPrivateKey,
  generateKeyPairSync,
  randomUUID,
  sign as signBytes,
} from 'node:crypto';
import { createLocalJWKSet, errors, type JWK, type JWTPayload, jwtVerify } from 'jose';
import { OutriderError } from './errors.ts';
import { isRecord } from './is-record.ts';
import type { Principal } from './principal.ts';
import { assertPlainToken, TokenFault } from './token-shape.ts';

/** The gateway's word that a principal is calling now: for `outrider:mesh`, 60 s. */
export interface Assertion {
  readonly principal: Principal;
  /** The role that the gateway authorised; empty where the runner may choose among the principal's. */
  readonly role: string;
  /**
   * The part of the assertion that goes on to the proxy: the same principal, signed for the proxy alone. Nothing accepts it as a
   * caller's credential, so that a sidecar, which holds the execution token around it, can call nobody in the user's name.
   */
  readonly proof: string;
  /** The MCP session, where there is one. */
  readonly session: string;
  /** Seconds since 1970. */
  readonly issuedAt: number;
  readonly expiresAt: number;
  readonly tokenId: string;
}

/** The runner's word that one exec may call out now: for `outrider:proxy`, 60 s, renewed while the exec runs. */
export interface ExecutionClaims {
  readonly sandboxId: string;
  readonly execId: string;
  readonly role: string;
  readonly policyDigest: string;
  /** `Assertion.proof` as it was received: the proxy checks it again and derives the role from it. */
  readonly proof: string;
  /** When the exec started, seconds since 1970: the proof must have been valid then. */
  readonly startedAt: number;
  /** The request id of the call that started the exec; joins the audit of every part. */
  readonly requestId: string;
  /** The exec installs the dependencies of its sandbox; absent: it is a program. What may be reached differs. */
  readonly phase?: 'install' | undefined;
  /** SHA-256 thumbprint of the client certificate that must carry the token (RFC 8705); absent on one host. */
  readonly certificateThumbprint?: string | undefined;
  /** SHA-256 thumbprint of the key that must sign a proof for each request (RFC 9449, 6.1); absent: none need be shown. */
  readonly keyThumbprint?: string | undefined;
  /** The token is for one request, at the proxy that goes by this name alone; absent: for any number, at any. */
  readonly once?: string | undefined;
}

export interface VerifiedExecution extends ExecutionClaims {
  /** Which runner signed it. */
  readonly issuer: string;
  readonly tokenId: string;
  /** Seconds since 1970, as `expiresAt`. */
  readonly issuedAt: number;
  readonly expiresAt: number;
}

export const AUDIENCE = { mesh: 'outrider:mesh', proxy: 'outrider:proxy' } as const;
export const TOKEN_LIFE_S = 60;
/** How far the clocks of two hosts may differ, in seconds. */
export const CLOCK_TOLERANCE_S = 5;
const TYPE = {
  assertion: 'outrider-assertion+jwt',
  proof: 'outrider-proof+jwt',
  execution: 'outrider-execution+jwt',
} as const;

/** A private signing key: Ed25519 (RFC 8037), with `kid` and `use: sig`. */
export interface SigningKey {
  readonly issuer: string;
  readonly jwk: JWK;
}

/** The public half, for a verifier's list. */
export interface TrustedIssuer {
  readonly issuer: string;
  /** The identity providers whose principals this issuer may assert; absent: any that it has verified. */
  readonly vouchesFor?: readonly string[] | undefined;
  readonly keys: readonly JWK[];
}

export function generateSigningKey(issuer: string): SigningKey {
  const { privateKey } = generateKeyPairSync('ed25519');
  const jwk = privateKey.export({ format: 'jwk' });
  const kid = createHash('sha256').update(`${jwk.crv}.${jwk.x}`).digest('base64url').slice(0, 16);
  return { issuer, jwk: { ...jwk, kid, alg: 'EdDSA', use: 'sig' } };
}

export function publicIssuer(
  { issuer, jwk }: SigningKey,
  vouchesFor?: readonly string[],
): TrustedIssuer {
  const { d: _private, ...rest } = jwk;
  return { issuer, keys: [rest], ...(vouchesFor === undefined ? {} : { vouchesFor }) };
}

export class AssertionSigner {
  readonly #sign: Sign;
  constructor(key: SigningKey) {
    this.#sign = signerOf(key);
  }

  /** A compact JWT of 60 s that any part of the mesh accepts, with the proof for the proxy inside. */
  async sign(
    principal: Principal,
    options: { session?: string; role?: string } = {},
  ): Promise<string> {
    const { issuer, subject, tenant, groups, claims } = principal;
    const shared = { idp: issuer, tenant, groups, claims, role: options.role ?? '' };
    const proof = this.#sign(TYPE.proof, AUDIENCE.proxy, subject, shared);
    return this.#sign(TYPE.assertion, AUDIENCE.mesh, subject, {
      ...shared,
      session: options.session ?? '',
      proof,
    });
  }
}

export class ExecutionSigner {
  readonly #sign: Sign;
  constructor(key: SigningKey) {
    this.#sign = signerOf(key);
  }

  async sign(claims: ExecutionClaims): Promise<{ jwt: string; expiresAt: Date }> {
    const { sandboxId, execId, role, policyDigest, proof, startedAt, requestId, phase, once } =
      claims;
    const cnf = confirmationOf(claims);
    const jwt = this.#sign(TYPE.execution, AUDIENCE.proxy, execId, {
      sandbox: sandboxId,
      exec: execId,
      role,
      policy: policyDigest,
      proof,
      started: startedAt,
      request: requestId,
      ...(phase === undefined ? {} : { phase }),
      ...(once === undefined ? {} : { once }),
      ...(cnf === undefined ? {} : { cnf }),
    });
    return { jwt, expiresAt: new Date(Date.now() + TOKEN_LIFE_S * 1000) };
  }
}

/** Verifies assertions: at the server and the runner. */
export class AssertionVerifier {
  readonly #verify: Verify;
  constructor(trusted: readonly TrustedIssuer[]) {
    this.#verify = verifierOf(trusted, TYPE.assertion, AUDIENCE.mesh);
  }

  /** Who is calling. @throws {OutriderError} UNAUTHENTICATED */
  async verify(jwt: string): Promise<Assertion> {
    const payload = await this.#verify(jwt);
    return {
      principal: principalOf(payload),
      role: textClaim(payload, 'role'),
      session: textClaim(payload, 'session'),
      proof: textClaim(payload, 'proof'),
      issuedAt: payload.iat ?? 0,
      expiresAt: payload.exp ?? 0,
      tokenId: textClaim(payload, 'jti'),
    };
  }
}

/** The gateway's word to the proxy, out of an execution token. */
export interface Proof {
  readonly principal: Principal;
  /** Where not empty, the only role that the exec may have. */
  readonly role: string;
  readonly issuedAt: number;
}

/** Verifies proofs: at the proxy only. */
export class ProofVerifier {
  readonly #verify: Verify;
  constructor(trusted: readonly TrustedIssuer[]) {
    this.#verify = verifierOf(trusted, TYPE.proof, AUDIENCE.proxy);
  }

  /**
   * On whose behalf an exec runs. The proof must have been valid at `at` (seconds since 1970), the exec's start.
   * @throws {OutriderError} UNAUTHENTICATED
   */
  async verify(jwt: string, at: number): Promise<Proof> {
    const payload = await this.#verify(jwt, at);
    return {
      principal: principalOf(payload),
      role: textClaim(payload, 'role'),
      issuedAt: payload.iat ?? 0,
    };
  }
}

export class ExecutionVerifier {
  readonly #verify: Verify;
  constructor(trusted: readonly TrustedIssuer[]) {
    this.#verify = verifierOf(trusted, TYPE.execution, AUDIENCE.proxy);
  }

  /**
   * Which exec is calling out. `at` (seconds since 1970) checks the life as of an earlier moment. A token that is bound to a key
   * in a way that is not known here is refused.
   * @throws {OutriderError} UNAUTHENTICATED
   */
  async verify(jwt: string, at?: number): Promise<VerifiedExecution> {
    const payload = await this.#verify(jwt, at);
    const startedAt = payload['started'];
    if (typeof startedAt !== 'number') throw notValid('claim started is missing');
    return {
      issuer: textClaim(payload, 'iss'),
      sandboxId: textClaim(payload, 'sandbox'),
      execId: textClaim(payload, 'exec'),
      role: textClaim(payload, 'role'),
      policyDigest: textClaim(payload, 'policy'),
      proof: textClaim(payload, 'proof'),
      startedAt,
      requestId: textClaim(payload, 'request'),
      phase: phaseOf(payload),
      ...boundTo(payload),
      once: payload['once'] === undefined ? undefined : textClaim(payload, 'once'),
      tokenId: textClaim(payload, 'jti'),
      issuedAt: payload.iat ?? 0,
      expiresAt: payload.exp ?? 0,
    };
  }
}

type Sign = (type: string, audience: string, subject: string, claims: JWTPayload) => string;
type Verify = (jwt: string, at?: number) => Promise<JWTPayload>;

/**
 * Compact JWS by `node:crypto`, in one go: a token is signed on the way to a program's first byte, and going through Web Crypto's
 * threads costs four times as much as the signature.
 */
function signerOf({ issuer, jwk }: SigningKey): Sign {
  const key = createPrivateKey({ key: jwk, format: 'jwk' });
  const kid = jwk.kid === undefined ? {} : { kid: jwk.kid };
  return (type, audience, subject, claims) => {
    const iat = Math.floor(Date.now() / 1000);
    const input = [
      { alg: 'EdDSA', typ: type, ...kid },
      {
        ...claims,
        iss: issuer,
        aud: audience,
        sub: subject,
        jti: randomUUID(),
        iat,
        exp: iat + TOKEN_LIFE_S,
      },
    ]
      .map((part) => Buffer.from(JSON.stringify(part)).toString('base64url'))
      .join('.');
    return `${input}.${signBytes(null, Buffer.from(input), key).toString('base64url')}`;
  };
}

/**
 * One algorithm, one type, one audience, keys pinned by issuer and `kid`: the header of a token chooses among known keys and
 * decides nothing else (RFC 8725).
 */
function verifierOf(trusted: readonly TrustedIssuer[], type: string, audience: string): Verify {
  const issuers = new Map<string, { keys: JWK[]; vouchesFor: Set<string> | undefined }>();
  for (const { issuer, keys, vouchesFor } of trusted) {
    const known = issuers.get(issuer);
    known?.keys.push(...keys);
    for (const idp of vouchesFor ?? []) known?.vouchesFor?.add(idp);
    if (!known)
      issuers.set(issuer, { keys: [...keys], vouchesFor: vouchesFor && new Set(vouchesFor) });
  }
  const keySets = new Map(
    [...issuers].map(([issuer, { keys }]) => [issuer, createLocalJWKSet({ keys })]),
  );
  return async (jwt, at) => {
    try {
      const { issuer } = assertPlainToken(jwt, 'EdDSA');
      const keySet = keySets.get(issuer);
      if (!keySet) throw new TokenFault('jwt_iss', 'unknown issuer');
      const { payload } = await jwtVerify(jwt, keySet, {
        issuer,
        audience,
        typ: type,
        algorithms: ['EdDSA'],
        requiredClaims: ['exp', 'iat', 'jti', 'sub'],
        clockTolerance: CLOCK_TOLERANCE_S,
        ...(at === undefined ? {} : { currentDate: new Date(at * 1000) }),
      });
      if (payload.aud !== audience) throw new TokenFault('jwt_aud_multi', 'more than one audience');
      if ((payload.iat ?? 0) > (at ?? Date.now() / 1000) + CLOCK_TOLERANCE_S)
        throw new TokenFault('jwt_iat', 'issued in the future');
      if ((payload.exp ?? 0) - (payload.iat ?? 0) > TOKEN_LIFE_S) throw new Error('lives too long');
      const vouchesFor = issuers.get(issuer)?.vouchesFor;
      if (vouchesFor && !vouchesFor.has(textClaim(payload, 'idp')))
        throw new TokenFault('jwt_iss', 'the issuer may not vouch for that identity provider');
      return payload;
    } catch (error) {
      const expired = error instanceof errors.JWTExpired;
      throw new OutriderError(
        'UNAUTHENTICATED',
        expired ? 'the token has expired' : 'the token is not valid here',
        { cause: error },
      );
    }
  };
}

function principalOf(payload: JWTPayload): Principal {
  return {
    issuer: textClaim(payload, 'idp'),
    subject: textClaim(payload, 'sub'),
    tenant: textClaim(payload, 'tenant'),
    groups: textList(payload, 'groups'),
    claims: textMap(payload, 'claims'),
  };
}

/** What a token is bound to. */
export type Bound = Pick<ExecutionClaims, 'certificateThumbprint' | 'keyThumbprint'>;

/** The members of `cnf` (RFC 7800), by what they are called here. */
const CONFIRMATION = { 'x5t#S256': 'certificateThumbprint', jkt: 'keyThumbprint' } as const;

function confirmationOf(bound: Bound): Record<string, string> | undefined {
  const members = Object.entries(CONFIRMATION).flatMap(([member, name]) => {
    const thumbprint = bound[name];
    return thumbprint === undefined ? [] : [[member, thumbprint] as const];
  });
  return members.length === 0 ? undefined : Object.fromEntries(members);
}

/**
 * What the claims of a token say that it is bound to: RFC 8705 3.1, RFC 9449 6.1. A member that is not known here is a condition that
 * nobody would check.
 * @throws {OutriderError} UNAUTHENTICATED
 */
export function boundTo(payload: JWTPayload): Bound {
  const cnf = payload['cnf'];
  if (cnf === undefined) return UNBOUND;
  const { 'x5t#S256': certificate, jkt, ...unknown } = isRecord(cnf) ? cnf : {};
  const given = [certificate, jkt].filter((thumbprint) => thumbprint !== undefined);
  if (given.length === 0 || Object.keys(unknown).length > 0) throw unknownConfirmation();
  return { certificateThumbprint: thumbprintOf(certificate), keyThumbprint: thumbprintOf(jkt) };
}

const UNBOUND: Bound = { certificateThumbprint: undefined, keyThumbprint: undefined };

function thumbprintOf(member: unknown): string | undefined {
  if (member === undefined || (typeof member === 'string' && member !== '')) return member;
  throw unknownConfirmation();
}

function unknownConfirmation(): OutriderError {
  return notValid(new TokenFault('jwt_cnf_mismatch', 'a confirmation of an unknown kind'));
}

/** A phase that is not known here must not pass for a program. */
function phaseOf(payload: JWTPayload): 'install' | undefined {
  const phase = payload['phase'];
  if (phase === undefined || phase === 'install') return phase;
  throw notValid('a phase of an unknown kind');
}

function notValid(cause: unknown): OutriderError {
  return new OutriderError('UNAUTHENTICATED', 'the token is not valid here', { cause });
}

function textClaim(payload: JWTPayload, name: string): string {
  const value = payload[name];
  if (typeof value !== 'string') throw notValid(`claim ${name} is missing`);
  return value;
}

function textList(payload: JWTPayload, name: string): string[] {
  const value = payload[name];
  if (!Array.isArray(value) || !value.every((item) => typeof item === 'string'))
    throw notValid(`claim ${name} is not a list of text`);
  return value;
}

function textMap(payload: JWTPayload, name: string): Record<string, string> {
  const value = payload[name];
  if (!isRecord(value)) return {};
  return Object.fromEntries(
    Object.entries(value).filter(
      (entry): entry is [string, string] => typeof entry[1] === 'string',
    ),
  );
}
