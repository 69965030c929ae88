import { createHash, generateKeyPairSync, type KeyObject, randomUUID, sign } from 'node:crypto';

/** For tests alone. A key of a client that proves that it has it (RFC 9449), made by `node:crypto` alone. */
export interface DpopKey {
  readonly privateKey: KeyObject;
  /** The public members. */
  readonly jwk: Readonly<Record<string, unknown>>;
  /** RFC 7638. */
  readonly thumbprint: string;
}

/** P-256, for ES256. */
export function createDpopKey(): DpopKey {
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const { crv, kty, x, y } = publicKey.export({ format: 'jwk' });
  const thumbprint = hashed(JSON.stringify({ crv, kty, x, y }));
  return { privateKey, jwk: { kty, crv, x, y }, thumbprint };
}

/** What a proof says; what is undefined is left out. */
export interface DpopSays {
  readonly htm: string;
  readonly htu: string;
  /** For `ath`. */
  readonly token?: string;
  readonly claims?: Readonly<Record<string, unknown>>;
  readonly header?: Readonly<Record<string, unknown>>;
}

/** A proof that is right, but for what is asked otherwise. */
export function dpopProof({ privateKey, jwk }: DpopKey, says: DpopSays): string {
  const header = { typ: 'dpop+jwt', alg: 'ES256', jwk, ...says.header };
  const payload = {
    htm: says.htm,
    htu: says.htu,
    iat: Math.floor(Date.now() / 1_000),
    jti: randomUUID(),
    ...(says.token === undefined ? {} : { ath: hashed(says.token) }),
    ...says.claims,
  };
  const input = [header, payload]
    .map((part) => Buffer.from(JSON.stringify(part)).toString('base64url'))
    .join('.');
  const signature = sign('sha256', Buffer.from(input), {
    key: privateKey,
    dsaEncoding: 'ieee-p1363',
  });
  return `${input}.${signature.toString('base64url')}`;
}

function hashed(text: string): string {
  return createHash('sha256').update(text).digest('base64url');
}
