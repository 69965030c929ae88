import type { JSONWebKeySet } from 'jose';
import { isLoopback } from '#core/address';
import { OutriderError } from '#core/errors';

const FETCH_TIMEOUT_MS = 5_000;
/** A set of keys is a few KiB. */
const DOCUMENT_MAX_BYTES = 262_144;

/** Where the keys of an issuer are: at `jwks`, or where its discovery document says (OpenID Connect Discovery 1.0, 4). */
export interface KeyPlace {
  readonly issuer: string;
  readonly jwks: string | undefined;
}

/** Keys must not be altered on the way. @throws {OutriderError} CONFIG_INVALID */
export function assertSafeUrl(text: string, issuer: string): URL {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  const host = url?.hostname.replace(/^\[|\]$/g, '') ?? '';
  const plainAllowed = url?.protocol === 'http:' && isLoopback({ kind: 'tcp', host, port: 0 });
  if (!url || (url.protocol !== 'https:' && !plainAllowed))
    throw new OutriderError(
      'CONFIG_INVALID',
      `the keys of ${issuer} must come from an https URL (http on loopback only)`,
    );
  return url;
}

/**
 * Fetches the keys, following no redirect. The discovery document must be about the very issuer that was asked for.
 * @throws {Error} which says what is wrong
 */
export async function fetchKeys({ issuer, jwks }: KeyPlace): Promise<JSONWebKeySet> {
  const place = jwks ?? (await discover(issuer));
  const value = await fetchJson(assertSafeUrl(place, issuer));
  const keys: unknown = value['keys'];
  if (!Array.isArray(keys) || keys.length === 0) throw new Error('no keys in the key set');
  if (!keys.every(isPublicKey)) throw new Error('a key of the key set is none, or is private');
  return { keys };
}

async function discover(issuer: string): Promise<string> {
  const url = assertSafeUrl(
    `${issuer.replace(/\/$/, '')}/.well-known/openid-configuration`,
    issuer,
  );
  const { issuer: named, jwks_uri: place } = await fetchJson(url);
  if (named !== issuer) throw new Error('the discovery document is about another issuer');
  if (typeof place !== 'string') throw new Error('the discovery document names no keys');
  return place;
}

async function fetchJson(url: URL): Promise<Record<string, unknown>> {
  const signal = AbortSignal.timeout(FETCH_TIMEOUT_MS);
  const response = await fetch(url, {
    redirect: 'error',
    signal,
    headers: { accept: 'application/json' },
  });
  if (response.status !== 200) {
    await response.body?.cancel();
    throw new Error(`status ${response.status}`);
  }
  const value: unknown = JSON.parse(await bounded(response));
  if (!isRecord(value)) throw new Error('not a JSON object');
  return value;
}

async function bounded(response: Response): Promise<string> {
  const pieces: Uint8Array[] = [];
  let size = 0;
  for await (const piece of response.body ?? []) {
    size += piece.length;
    if (size > DOCUMENT_MAX_BYTES) throw new Error(`larger than ${DOCUMENT_MAX_BYTES} bytes`);
    pieces.push(piece);
  }
  return Buffer.concat(pieces).toString('utf8');
}

function isPublicKey(key: unknown): key is JSONWebKeySet['keys'][number] {
  return isRecord(key) && typeof key['kty'] === 'string' && key['kty'] !== 'oct' && !('d' in key);
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
