import type { JSONWebKeySet } from 'jose';
import { discoveryUrl, fetchJson, providerUrl } from './identity-provider.ts';

/** A set of keys is a few KiB. */
const BOUNDS = { timeoutMs: 5_000, maxBytes: 262_144 } as const;

/** Where the keys of an issuer are: at `jwks`, or where its discovery document says (OpenID Connect Discovery 1.0, 4). */
export interface KeyPlace {
  readonly issuer: string;
  readonly jwks: string | undefined;
}

/** Keys must not be altered on the way. @throws {OutriderError} CONFIG_INVALID */
export function assertSafePlace({ issuer, jwks }: KeyPlace): void {
  if (jwks === undefined) discoveryUrl(issuer);
  else keysUrl(jwks, issuer);
}

/**
 * Fetches the keys, following no redirect. The discovery document must be about the very issuer that was asked for.
 * @throws {Error} which says what is wrong
 */
export async function fetchIssuerKeys({ issuer, jwks }: KeyPlace): Promise<JSONWebKeySet> {
  const place = jwks ?? (await discover(issuer));
  const { keys } = await fetchJson(keysUrl(place, issuer), BOUNDS);
  if (!Array.isArray(keys) || keys.length === 0) throw new Error('no keys in the key set');
  if (!keys.every(isPublicKey)) throw new Error('a key of the key set is none, or is private');
  return { keys };
}

async function discover(issuer: string): Promise<string> {
  const { issuer: named, jwks_uri: place } = await fetchJson(discoveryUrl(issuer), BOUNDS);
  if (named !== issuer) throw new Error('the discovery document is about another issuer');
  if (typeof place !== 'string') throw new Error('the discovery document names no keys');
  return place;
}

function keysUrl(text: string, issuer: string): URL {
  return providerUrl(text, `the address of the keys of ${issuer}`);
}

function isPublicKey(key: unknown): key is JSONWebKeySet['keys'][number] {
  return (
    typeof key === 'object' &&
    key !== null &&
    'kty' in key &&
    typeof key.kty === 'string' &&
    key.kty !== 'oct' &&
    !('d' in key)
  );
}
