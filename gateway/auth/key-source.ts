import { readFileSync, statSync } from 'node:fs';
import { resolve } from 'node:path';
import { createLocalJWKSet, type JSONWebKeySet, type JWTVerifyGetKey } from 'jose';
import { OutriderError } from '#core/errors';
import { fetchIssuerKeys } from '#core/fetch-issuer-keys';
import { discoveryUrl, fetchJson, providerUrl } from '#core/identity-provider';
import { createIssuerKeys } from '#core/issuer-keys';
import type { Logger } from '#core/log';
import type { IssuerConfig } from '../config.ts';
import { PROVIDER_BOUNDS } from './provider-bounds.ts';

const FILE_CHECK_MS = 1_000;

/** The keys of an issuer, and what must be known before it has any. */
export interface KeySource {
  readonly keys: JWTVerifyGetKey;
  /** @throws {OutriderError} UPSTREAM_UNREACHABLE | CONFIG_INVALID where the issuer does not say where its keys are */
  ready(): Promise<void>;
}

/**
 * The public keys of an issuer, kept and found again when it rotates them: from a URL whenever a token names an unknown key
 * (at most once per `jwksCooldown`) and every 10 minutes, from a file whenever the file has changed. Those from a URL that does not answer
 * are good for `jwksMaxAge`. Without `jwks` the issuer says itself where they are (OpenID Connect Discovery 1.0, section 4).
 * @throws {OutriderError} CONFIG_INVALID
 */
export function createKeySource(
  {
    issuer,
    jwks,
    jwksCooldown,
    jwksMaxAge,
  }: Pick<IssuerConfig, 'issuer' | 'jwks' | 'jwksCooldown' | 'jwksMaxAge'>,
  log: Logger,
): KeySource {
  const remote = ({ href }: URL): JWTVerifyGetKey =>
    createIssuerKeys({
      issuer,
      fetch: () => fetchIssuerKeys({ issuer, jwks: href }),
      cooldownMs: jwksCooldown,
      maxAgeMs: jwksMaxAge,
      log,
    }).get;
  const place = keysPlace({ issuer, jwks });
  if (place.kind !== 'discovered') {
    const keys = place.kind === 'url' ? remote(place.url) : fileKeys(place.path, log);
    return { keys, ready: async () => {} };
  }
  const { metadata } = place;
  let found: JWTVerifyGetKey | undefined;
  return {
    keys: (header, token) => {
      if (!found) throw new Error('the issuer has not been found yet');
      return found(header, token);
    },
    async ready() {
      const { issuer: named, jwks_uri: uri } = await fetchJson(metadata, PROVIDER_BOUNDS);
      if (named !== issuer || typeof uri !== 'string')
        throw new OutriderError(
          'CONFIG_INVALID',
          `gateway.issuers: what ${metadata.href} says is not about ${issuer}`,
        );
      found = remote(keysUrl(uri, issuer));
    },
  };
}

type KeysPlace =
  | { readonly kind: 'url'; readonly url: URL }
  | { readonly kind: 'file'; readonly path: string }
  | { readonly kind: 'discovered'; readonly metadata: URL };

/** Where the keys of an issuer are, as the configuration says it. @throws {OutriderError} CONFIG_INVALID */
export function keysPlace({ issuer, jwks }: Pick<IssuerConfig, 'issuer' | 'jwks'>): KeysPlace {
  if (jwks === undefined) return { kind: 'discovered', metadata: discoveryUrl(issuer) };
  return URL.canParse(jwks)
    ? { kind: 'url', url: keysUrl(jwks, issuer) }
    : { kind: 'file', path: resolve(jwks) };
}

function keysUrl(text: string, issuer: string): URL {
  return providerUrl(text, `the address of the keys of ${issuer}`);
}

/** A file that turns unreadable keeps its last keys, and the log says so. */
function fileKeys(path: string, log: Logger): JWTVerifyGetKey {
  let version = versionOf(path);
  let keys = readKeys(path);
  let checked = Date.now();
  return (header, token) => {
    if (Date.now() - checked >= FILE_CHECK_MS) {
      checked = Date.now();
      try {
        const found = versionOf(path);
        if (found !== version) keys = readKeys(path);
        version = found;
      } catch (error) {
        log.warn('the keys of an issuer cannot be read again; the old ones stay', { error });
      }
    }
    return keys(header, token);
  };
}

function versionOf(path: string): string {
  const stat = statSync(path, { bigint: true, throwIfNoEntry: false });
  return stat ? `${stat.ino}.${stat.size}.${stat.mtimeNs}` : 'absent';
}

function readKeys(path: string): JWTVerifyGetKey {
  try {
    const parsed: unknown = JSON.parse(readFileSync(path, 'utf8'));
    // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- createLocalJWKSet checks the shape itself and throws
    return createLocalJWKSet(parsed as JSONWebKeySet);
  } catch (error) {
    throw new OutriderError('CONFIG_INVALID', `${path} is not a JSON Web Key Set`, {
      cause: error,
    });
  }
}
