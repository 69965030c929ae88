import { createHash, generateKeyPairSync, randomUUID } from 'node:crypto';
import {
  createLocalJWKSet,
  errors,
  importJWK,
  type JWK,
  type JWTPayload,
  jwtVerify,
  SignJWT,
} from 'jose';
import { OutriderError } from './errors.ts';
import type { Principal } from './principal.ts';

/** The gateway's word that a principal is calling now: for `outrider:mesh`, 60 s. */
export interface Assertion {
  readonly principal: Principal;
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
  /** The caller's assertion as it was received: the proxy checks it again and derives the role from it. */
  readonly assertion: string;
  /** SHA-256 thumbprint of the client certificate that must carry the token (RFC 8705); absent on one host. */
  readonly certificateThumbprint?: string | undefined;
}

export interface VerifiedExecution extends ExecutionClaims {
  readonly tokenId: string;
  readonly expiresAt: number;
}

export const AUDIENCE = { mesh: 'outrider:mesh', proxy: 'outrider:proxy' } as const;
export const TOKEN_LIFE_S = 60;
/** How far the clocks of two hosts may differ, in seconds. */
const CLOCK_TOLERANCE_S = 5;
const TYPE = { assertion: 'outrider-assertion+jwt', execution: 'outrider-execution+jwt' } as const;
/** No token of ours comes near it; a larger one is refused before it is parsed. */
const TOKEN_MAX_BYTES = 16_384;

/** A private signing key: Ed25519 (RFC 8037), with `kid` and `use: sig`. */
export interface SigningKey {
  readonly issuer: string;
  readonly jwk: JWK;
}

/** The public half, for a verifier's list. */
export interface TrustedIssuer {
  readonly issuer: string;
  readonly keys: readonly JWK[];
}

export function generateSigningKey(issuer: string): SigningKey {
  const { privateKey } = generateKeyPairSync('ed25519');
  const jwk = privateKey.export({ format: 'jwk' });
  const kid = createHash('sha256').update(`${jwk.crv}.${jwk.x}`).digest('base64url').slice(0, 16);
  return { issuer, jwk: { ...jwk, kid, alg: 'EdDSA', use: 'sig' } };
}

export function publicIssuer({ issuer, jwk }: SigningKey): TrustedIssuer {
  const { d: _private, ...rest } = jwk;
  return { issuer, keys: [rest] };
}

export class AssertionSigner {
  readonly #sign: Sign;
  constructor(key: SigningKey) {
    this.#sign = signerOf(key);
  }

  /** A compact JWT. `lifeS` is above 60 only for the local principal's, which the supervisor renews. */
  sign(principal: Principal, session = '', lifeS = TOKEN_LIFE_S): Promise<string> {
    const { issuer, subject, tenant, groups, claims } = principal;
    return this.#sign(TYPE.assertion, AUDIENCE.mesh, subject, lifeS, {
      idp: issuer,
      tenant,
      groups,
      claims,
      session,
    });
  }
}

export class ExecutionSigner {
  readonly #sign: Sign;
  constructor(key: SigningKey) {
    this.#sign = signerOf(key);
  }

  async sign(claims: ExecutionClaims): Promise<{ jwt: string; expiresAt: Date }> {
    const { sandboxId, execId, role, policyDigest, assertion, certificateThumbprint } = claims;
    const jwt = await this.#sign(TYPE.execution, AUDIENCE.proxy, execId, TOKEN_LIFE_S, {
      sandbox: sandboxId,
      exec: execId,
      role,
      policy: policyDigest,
      assertion,
      ...(certificateThumbprint === undefined
        ? {}
        : { cnf: { 'x5t#S256': certificateThumbprint } }),
    });
    return { jwt, expiresAt: new Date(Date.now() + TOKEN_LIFE_S * 1000) };
  }
}

export class AssertionVerifier {
  readonly #verify: Verify;
  constructor(trusted: readonly TrustedIssuer[]) {
    this.#verify = verifierOf(trusted, TYPE.assertion, AUDIENCE.mesh);
  }

  /**
   * Who is calling. `at` (seconds since 1970) checks the life as of an earlier moment.
   * @throws {OutriderError} UNAUTHENTICATED
   */
  async verify(jwt: string, at?: number): Promise<Assertion> {
    const payload = await this.#verify(jwt, at);
    return {
      principal: {
        issuer: textClaim(payload, 'idp'),
        subject: textClaim(payload, 'sub'),
        tenant: textClaim(payload, 'tenant'),
        groups: textList(payload, 'groups'),
        claims: textMap(payload, 'claims'),
      },
      session: textClaim(payload, 'session'),
      issuedAt: payload.iat ?? 0,
      expiresAt: payload.exp ?? 0,
      tokenId: textClaim(payload, 'jti'),
    };
  }
}

export class ExecutionVerifier {
  readonly #verify: Verify;
  constructor(trusted: readonly TrustedIssuer[]) {
    this.#verify = verifierOf(trusted, TYPE.execution, AUDIENCE.proxy);
  }

  /** @throws {OutriderError} UNAUTHENTICATED */
  async verify(jwt: string): Promise<VerifiedExecution> {
    const payload = await this.#verify(jwt);
    const cnf = payload['cnf'];
    return {
      sandboxId: textClaim(payload, 'sandbox'),
      execId: textClaim(payload, 'exec'),
      role: textClaim(payload, 'role'),
      policyDigest: textClaim(payload, 'policy'),
      assertion: textClaim(payload, 'assertion'),
      certificateThumbprint:
        isRecord(cnf) && typeof cnf['x5t#S256'] === 'string' ? cnf['x5t#S256'] : undefined,
      tokenId: textClaim(payload, 'jti'),
      expiresAt: payload.exp ?? 0,
    };
  }
}

type Sign = (
  type: string,
  audience: string,
  subject: string,
  lifeS: number,
  claims: JWTPayload,
) => Promise<string>;
type Verify = (jwt: string, at?: number) => Promise<JWTPayload>;

function signerOf({ issuer, jwk }: SigningKey): Sign {
  const key = importJWK(jwk, 'EdDSA');
  return async (type, audience, subject, lifeS, claims) =>
    new SignJWT(claims)
      .setProtectedHeader({
        alg: 'EdDSA',
        typ: type,
        ...(jwk.kid === undefined ? {} : { kid: jwk.kid }),
      })
      .setIssuer(issuer)
      .setAudience(audience)
      .setSubject(subject)
      .setJti(randomUUID())
      .setIssuedAt()
      .setExpirationTime(`${lifeS}s`)
      .sign(await key);
}

/**
 * One algorithm, one type, one audience, keys pinned by issuer and `kid`: the header of a token chooses among known keys and
 * decides nothing else (RFC 8725).
 */
function verifierOf(trusted: readonly TrustedIssuer[], type: string, audience: string): Verify {
  const keySets = new Map(
    trusted.map((entry) => [entry.issuer, createLocalJWKSet({ keys: [...entry.keys] })]),
  );
  return async (jwt, at) => {
    try {
      if (jwt.length > TOKEN_MAX_BYTES) throw new Error('too large');
      const issuer = unverifiedIssuer(jwt);
      const keySet = keySets.get(issuer);
      if (!keySet) throw new Error('unknown issuer');
      const { payload } = await jwtVerify(jwt, keySet, {
        issuer,
        audience,
        typ: type,
        algorithms: ['EdDSA'],
        requiredClaims: ['exp', 'iat', 'jti', 'sub'],
        clockTolerance: CLOCK_TOLERANCE_S,
        ...(at === undefined ? {} : { currentDate: new Date(at * 1000) }),
      });
      if (payload.aud !== audience) throw new Error('more than one audience');
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

/** Chooses which pinned key set to try; the signature then covers it. */
function unverifiedIssuer(jwt: string): string {
  const payload: unknown = JSON.parse(
    Buffer.from(jwt.split('.')[1] ?? '', 'base64url').toString('utf8'),
  );
  return isRecord(payload) && typeof payload['iss'] === 'string' ? payload['iss'] : '';
}

function textClaim(payload: JWTPayload, name: string): string {
  const value = payload[name];
  if (typeof value !== 'string')
    throw new OutriderError('UNAUTHENTICATED', 'the token is not valid here', {
      cause: `claim ${name} is missing`,
    });
  return value;
}

function textList(payload: JWTPayload, name: string): string[] {
  const value = payload[name];
  if (!Array.isArray(value) || !value.every((item) => typeof item === 'string')) {
    throw new OutriderError('UNAUTHENTICATED', 'the token is not valid here', {
      cause: `claim ${name} is not a list of text`,
    });
  }
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

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
