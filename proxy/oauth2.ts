import { createHash } from 'node:crypto';
import type { OutriderError } from '#core/errors';
import { askWhole } from '#core/http1/whole';
import type { ClientCredentials, DatasourceGrant, TokenEndpointGrant } from '#policies';
import { CheckedAddresses } from './addresses.ts';
import { endpointOf } from './endpoint.ts';
import type { UpstreamPools } from './pools.ts';
import { refused } from './refusal.ts';
import type { Resolver } from './resolver.ts';

/** Whose token is wanted. */
export interface TokenRequest {
  /** For whom: `<type>/<name>` of a datasource, or the name of a credential. Connections are shared within it alone. */
  readonly client: string;
  readonly auth: ClientCredentials;
  readonly clientSecret: string;
  /** Says which addresses the token endpoint may have: those that the datasource's own endpoint may; of a credential, public ones. */
  readonly grant: DatasourceGrant | TokenEndpointGrant;
}

/** Gets tokens with the client credentials grant (RFC 6749, 4.4) and keeps them until shortly before they expire. */
export interface ClientTokens {
  /**
   * A token that is valid now. However many ask, one request is under way for each client; a token that is near its end is
   * replaced while it still serves.
   * @throws {OutriderError} CREDENTIAL_UNAVAILABLE, answered 502
   */
  token(request: TokenRequest): Promise<string>;
  /** To be called when the other side does not take the token: the next call gets another one. */
  forget(token: string): void;
}

/** What a token of an unknown life is taken to have (RFC 6749, 5.1 leaves it open). */
const LIFE_DEFAULT_S = 300;
/** The last part of a life in which another token is got already. */
const EARLY = 0.2;
const ANSWER_MAX_BYTES = 65_536;
/** After a failure nobody asks again for so long: those who wait are told of that failure. */
const PAUSE_MS = 1_000;
const KEPT_MAX = 256;

interface Kept {
  token: string;
  /** By `performance.now`. */
  refreshAt: number;
  expiresAt: number;
}

/** `timeoutMs` bounds one request for a token, from dialling to the last byte. */
export function createClientTokens(parts: {
  readonly resolver: Resolver;
  readonly pools: UpstreamPools;
  readonly timeoutMs: number;
}): ClientTokens {
  const kept = new Map<string, Kept>();
  const underWay = new Map<string, Promise<Kept>>();
  const failed = new Map<string, { until: number; error: unknown }>();

  const get = (key: string, request: TokenRequest): Promise<Kept> => {
    const running = underWay.get(key);
    if (running) return running;
    const pause = failed.get(key);
    if (pause && performance.now() < pause.until) return Promise.reject(pause.error);
    const started = requestToken(parts, request)
      .then(
        (one) => {
          failed.delete(key);
          if (kept.size >= KEPT_MAX) kept.clear();
          kept.set(key, one);
          return one;
        },
        (error: unknown) => {
          if (failed.size >= KEPT_MAX) failed.clear();
          failed.set(key, { until: performance.now() + PAUSE_MS, error });
          throw error;
        },
      )
      .finally(() => underWay.delete(key));
    underWay.set(key, started);
    return started;
  };

  return {
    async token(request) {
      const key = keyOf(request);
      const known = kept.get(key);
      const now = performance.now();
      if (!known || now >= known.expiresAt) return (await get(key, request)).token;
      // A failure here is nobody's yet: the old token still serves, and the next call tries again.
      if (now >= known.refreshAt) get(key, request).catch(() => {});
      return known.token;
    },
    forget(token) {
      for (const [key, one] of kept) if (one.token === token) kept.delete(key);
    },
  };
}

/** Another secret, scope or address is another client; the secret itself is not kept. */
function keyOf({ client, auth, clientSecret }: TokenRequest): string {
  return createHash('sha256')
    .update(JSON.stringify([client, auth, clientSecret]))
    .digest('base64');
}

const TOKEN_HEADERS: readonly (readonly [name: string, value: string])[] = [
  ['accept', 'application/json'],
  ['accept-encoding', 'identity'],
  ['content-type', 'application/x-www-form-urlencoded'],
];

async function requestToken(
  { resolver, pools, timeoutMs }: Parameters<typeof createClientTokens>[0],
  { client, auth, clientSecret, grant }: TokenRequest,
): Promise<Kept> {
  const endpoint = endpointOf(auth.tokenUrl);
  const asked = performance.now();
  try {
    const addresses = CheckedAddresses.check(grant, await resolver.resolve(endpoint.host));
    const url = new URL(auth.tokenUrl);
    const pool = pools.for({ ...endpoint, credential: `oauth2:${client}`, addresses });
    const pair = clientPair(auth.clientId, clientSecret);
    const headers = [
      'host',
      endpoint.authority,
      ...TOKEN_HEADERS.flat(),
      'authorization',
      `Basic ${pair}`,
    ];
    const { status, body } = await askWhole(
      pool,
      {
        method: 'POST',
        path: `${url.pathname}${url.search}`,
        headers,
        body: Buffer.from(tokenForm(auth)),
      },
      { timeoutMs, maxBytes: ANSWER_MAX_BYTES },
    );
    if (status !== 200) throw new Error(`it answered ${status}`);
    const text = body.toString('utf8');
    return readToken(text, asked);
  } catch (error) {
    throw noToken(error);
  }
}

/** RFC 6749, 2.3.1: both are form-encoded before they are joined. */
function clientPair(id: string, secret: string): string {
  const encode = (text: string) => new URLSearchParams([['', text]]).toString().slice(1);
  return Buffer.from(`${encode(id)}:${encode(secret)}`).toString('base64');
}

function tokenForm({ scopes, audience }: ClientCredentials): string {
  const form = new URLSearchParams({ grant_type: 'client_credentials' });
  if (scopes) form.set('scope', scopes.join(' '));
  if (audience !== undefined) form.set('audience', audience);
  return form.toString();
}

function readToken(text: string, asked: number): Kept {
  const answer: unknown = JSON.parse(text);
  if (typeof answer !== 'object' || answer === null) throw new Error('its answer is no object');
  const field = (name: string): unknown =>
    Object.entries(answer).find(([key]) => key === name)?.[1];
  const [token, type, life] = [field('access_token'), field('token_type'), field('expires_in')];
  if (typeof type !== 'string' || type.toLowerCase() !== 'bearer')
    throw new Error('it gave a token that is no bearer token');
  if (typeof token !== 'string' || !/^[\x21-\x7e]{1,8192}$/.test(token))
    throw new Error('it gave no token that could stand in a header');
  const seconds = life === undefined ? LIFE_DEFAULT_S : Number(life);
  if (!(seconds > 0)) throw new Error('it gave a token that has expired');
  return {
    token,
    refreshAt: asked + seconds * 1_000 * (1 - EARLY),
    expiresAt: asked + seconds * 1_000,
  };
}

/** What the token endpoint said is not the caller's business: it could tell of the client. */
function noToken(because: unknown): OutriderError {
  return refused(
    'CREDENTIAL_UNAVAILABLE',
    'the other side could not be authenticated to: no token was given',
    'credential_unavailable',
    { status: 502, because },
  );
}
