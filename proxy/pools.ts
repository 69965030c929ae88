import type { SecureContext } from 'node:tls';
import { Http1Pool } from '#core/http1/client';
import type { CheckedAddresses } from './addresses.ts';
import type { Dialer } from './dialer.ts';
import type { DatasourceTrust } from './trust.ts';

/** Where one request goes, and which connections it may share. */
export interface UpstreamRoute {
  /** The name of the credential that the connection carries; empty for none. Connections are never shared across it. */
  readonly credential: string;
  readonly scheme: 'http' | 'https';
  /** The canonical host: SNI and the name that the certificate must be for. */
  readonly host: string;
  readonly port: number;
  readonly addresses: CheckedAddresses;
  /** TLS settings of the datasource's own. */
  readonly trust?: DatasourceTrust | undefined;
}

/** Two routes with one key may share connections. */
export function routeKey(route: UpstreamRoute): string {
  const { credential, scheme, host, port, addresses, trust } = route;
  return JSON.stringify([credential, scheme, host, port, addresses.texts, trust?.id ?? '']);
}

function isSameRoute(a: UpstreamRoute, b: UpstreamRoute): boolean {
  return (
    a.credential === b.credential &&
    a.scheme === b.scheme &&
    a.host === b.host &&
    a.port === b.port &&
    a.addresses === b.addresses &&
    a.trust?.id === b.trust?.id
  );
}

export interface PoolLimits {
  /** How many pools are kept; the least recently used is closed once its requests have ended. */
  readonly pools: number;
  /** Connections of one pool: more than one sandbox may hold open, of which many share it. */
  readonly connections: number;
  /** How long a pool without requests is kept. */
  readonly idleMs: number;
}

export interface UpstreamTimeouts {
  /** For the beginning of an answer. */
  readonly headersTimeoutMs: number;
  /** For silence within one. */
  readonly bodyTimeoutMs: number;
}

const LIMITS: PoolLimits = { pools: 256, connections: 1_024, idleMs: 30_000 };
/** How long a connection without a request is kept: less than the 5 s of many servers. */
const IDLE_MS = 4_000;
/** More than a public server sends; above it the answer is refused. */
const RESPONSE_HEADER_MAX_BYTES = 65_536;

/** One pool per route, each dialling only the addresses that were checked for it. */
export class UpstreamPools {
  readonly #pools = new Map<string, { pool: Http1Pool; usedAt: number }>();
  /** The last route to some addresses, and its key. */
  readonly #keys = new WeakMap<
    CheckedAddresses,
    { readonly route: UpstreamRoute; readonly key: string }
  >();
  readonly #trust: SecureContext;
  readonly #connectTimeoutMs: number;
  readonly #timeouts: UpstreamTimeouts;
  readonly #dial: Dialer;
  readonly #limits: PoolLimits;
  readonly #sweep: NodeJS.Timeout;

  constructor(options: {
    trust: SecureContext;
    connectTimeoutMs: number;
    dial: Dialer;
    timeouts: UpstreamTimeouts;
    limits?: PoolLimits;
  }) {
    this.#timeouts = options.timeouts;
    this.#dial = options.dial;
    this.#trust = options.trust;
    this.#connectTimeoutMs = options.connectTimeoutMs;
    this.#limits = options.limits ?? LIMITS;
    this.#sweep = setInterval(() => this.#closeIdle(), this.#limits.idleMs).unref();
  }

  get size(): number {
    return this.#pools.size;
  }

  for(route: UpstreamRoute): Http1Pool {
    const key = this.#keyOf(route);
    const known = this.#pools.get(key);
    if (known) {
      known.usedAt = performance.now();
      return known.pool;
    }
    const pool = this.#open(route);
    this.#pools.set(key, { pool, usedAt: performance.now() });
    if (this.#pools.size > this.#limits.pools) this.#evict();
    return pool;
  }

  /** Addresses that were checked for a datasource are one object for many requests, which mostly have one route. */
  #keyOf(route: UpstreamRoute): string {
    const last = this.#keys.get(route.addresses);
    if (last && isSameRoute(last.route, route)) return last.key;
    const key = routeKey(route);
    this.#keys.set(route.addresses, { route, key });
    return key;
  }

  async close(): Promise<void> {
    clearInterval(this.#sweep);
    const pools = [...this.#pools.values()];
    this.#pools.clear();
    await Promise.all(pools.map(({ pool }) => pool.destroy()));
  }

  #open(route: UpstreamRoute): Http1Pool {
    const { scheme, host, port, addresses, trust } = route;
    const context = trust?.context ?? this.#trust;
    const tls = scheme === 'https' ? { host, context, trustId: trust?.id } : undefined;
    return new Http1Pool({
      ...this.#timeouts,
      connections: this.#limits.connections,
      idleMs: IDLE_MS,
      headMaxBytes: RESPONSE_HEADER_MAX_BYTES,
      connect: (done) => {
        this.#dial(host, addresses, { port, tls, timeoutMs: this.#connectTimeoutMs }).then(
          (socket) => done(null, socket),
          (error: unknown) => done(error instanceof Error ? error : new Error('dial'), null),
        );
      },
    });
  }

  #evict(): void {
    const [oldest] = [...this.#pools].toSorted(([, a], [, b]) => a.usedAt - b.usedAt);
    if (oldest) this.#drop(oldest[0], oldest[1].pool);
  }

  #closeIdle(): void {
    const before = performance.now() - this.#limits.idleMs;
    for (const [key, { pool, usedAt }] of this.#pools)
      if (usedAt < before && pool.busy === 0) this.#drop(key, pool);
  }

  /** Ends once its running requests have; new ones get a new pool. */
  #drop(key: string, pool: Http1Pool): void {
    this.#pools.delete(key);
    void pool.close();
  }
}
