import { createHash } from 'node:crypto';
import { readFileSync, statSync } from 'node:fs';
import type { Clock } from '#core/clock';
import { OutriderError } from '#core/errors';
import { fetchJson, providerUrl } from '#core/identity-provider';
import type { IssuerConfig } from '../config.ts';
import { PROVIDER_BOUNDS } from './provider-bounds.ts';
import { ProviderCircuit } from './provider-circuit.ts';
import { type TokenVerdict, verdictOf } from './token-claims.ts';

/** How long a provider's yes is taken for one, and never past the token's `exp`. A no is not kept: nobody waits for it twice. */
const CACHE_MS = 30_000;
const CACHE_MAX = 10_000;

/**
 * Asks the issuer itself about each token (RFC 7662): for tokens that only it can read, or that it may revoke. While it is down,
 * tokens that it has confirmed within 30 s go on, and others are refused without asking it.
 * @throws {OutriderError} CONFIG_INVALID
 */
export function createIntrospection(
  issuer: IssuerConfig,
  now: Clock = Date.now,
): (token: string) => Promise<TokenVerdict> {
  const { url, client, secretFile } = introspectionOf(issuer);
  const authorization = basic(client, secretIn(secretFile));
  const circuit = new ProviderCircuit(now);
  const cache = new Map<string, { readonly verdict: TokenVerdict; readonly until: number }>();

  return async (token) => {
    // Another spelling of a token is another key, and only costs one more question; nothing is revoked by this key.
    const key = createHash('sha256').update(token).digest('base64');
    const known = cache.get(key);
    if (known && now() < known.until) return known.verdict;
    cache.delete(key);
    const asked = await circuit.ask(() =>
      fetchJson(url, {
        ...PROVIDER_BOUNDS,
        headers: { authorization },
        form: new URLSearchParams({ token, token_type_hint: 'access_token' }),
      }),
    );
    if ('error' in asked)
      return {
        ok: false,
        reason: 'keys_unavailable',
        scopes: issuer.scopes,
        cause: asked.error,
        retryAfterMs: asked.retryAfterMs,
      };
    const { answer } = asked;
    if (answer['active'] !== true) return { ok: false, reason: 'unknown', scopes: [] };
    // It may leave out that it issued the token itself; what it says, it must say rightly.
    const said = answer['iss'] ?? issuer.issuer;
    const iss = typeof said === 'string' ? said : '';
    const verdict = verdictOf({ ...answer, iss }, issuer, now());
    const expires = answer['exp'];
    if (!verdict.ok || typeof expires !== 'number') return verdict;
    cache.set(key, { verdict, until: Math.min(now() + CACHE_MS, expires * 1_000) });
    const [oldest] = cache.keys();
    if (cache.size > CACHE_MAX && oldest !== undefined) cache.delete(oldest);
    return verdict;
  };
}

/** Finds out whether the issuer answers this gateway at all. @throws {OutriderError} UPSTREAM_UNREACHABLE | CONFIG_INVALID */
export async function reachIntrospection(issuer: IssuerConfig): Promise<void> {
  const { url, client, secretFile } = introspectionOf(issuer);
  await fetchJson(url, {
    ...PROVIDER_BOUNDS,
    headers: { authorization: basic(client, secretIn(secretFile)) },
    form: new URLSearchParams({ token: 'of nobody', token_type_hint: 'access_token' }),
  });
}

/** Where an issuer is asked, and as whom, as the configuration says it. @throws {OutriderError} CONFIG_INVALID */
export function introspectionOf(issuer: IssuerConfig): {
  readonly url: URL;
  readonly client: string;
  readonly secretFile: string;
} {
  const { introspection, introspectionClient, introspectionSecretFile } = issuer;
  if (introspectionClient === undefined || introspectionSecretFile === undefined)
    throw new OutriderError(
      'CONFIG_INVALID',
      `introspection of ${issuer.issuer} needs introspectionClient and introspectionSecretFile`,
    );
  return {
    url: providerUrl(introspection ?? '', `introspection of ${issuer.issuer}`),
    client: introspectionClient,
    secretFile: introspectionSecretFile,
  };
}

/** How the gateway shows the issuer who asks: HTTP Basic with the two form-encoded (RFC 6749 section 2.3.1). */
function basic(client: string, secret: string): string {
  const pair = [client, secret].map(encodeURIComponent);
  return `Basic ${Buffer.from(pair.join(':')).toString('base64')}`;
}

function secretIn(path: string): string {
  const stat = statSync(path, { throwIfNoEntry: false });
  const secret = stat && (stat.mode & 0o077) === 0 ? readFileSync(path, 'utf8').trim() : '';
  if (secret === '')
    throw new OutriderError(
      'CONFIG_INVALID',
      `introspectionSecretFile: ${path} must hold the secret and be readable by its owner only: chmod 600 ${path}`,
    );
  return secret;
}
