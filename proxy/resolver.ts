import { Resolver as DnsResolver } from 'node:dns/promises';
import { readFileSync, statSync } from 'node:fs';
import { parseIp } from '#policies';
import { refused } from './refusal.ts';

/** Turns a canonical name into addresses. It decides nothing: what comes back is not checked yet. */
export interface Resolver {
  /** What `resolve` would say, where nobody need be asked for it. The same array for as long as it is the same answer. */
  known(host: string): readonly Uint8Array[] | undefined;
  /**
   * Every address of the name, 16 bytes each, IPv4 first; at least one. An IP literal is itself and `localhost` is loopback;
   * neither is asked for.
   * @throws {OutriderError} UPSTREAM_UNREACHABLE, UPSTREAM_TIMEOUT
   */
  resolve(host: string): Promise<readonly Uint8Array[]>;
  close(): void;
}

export interface ResolverOptions {
  /** IP addresses with an optional port; empty: those of the system. */
  readonly servers: readonly string[];
  /** Read before DNS, again when it changed. */
  readonly hostsFile: string | undefined;
  /** For A and AAAA together. */
  readonly timeoutMs: number;
}

/** However long the TTL: a name that moves is followed within half a minute. */
const CACHE_MAX_MS = 30_000;
const CACHE_MAX_NAMES = 4_096;
/** A name that does not exist is asked for again after this. */
const NEGATIVE_MS = 2_000;
/** An answer with more addresses than this is cut; all that are used are checked. */
const ADDRESSES_MAX = 32;

interface Entry {
  until: number;
  readonly answer: Promise<readonly Uint8Array[]>;
  /** Once it is there. */
  addresses: readonly Uint8Array[] | undefined;
}

/**
 * A resolver of our own, so that the addresses that are checked are those that are dialled. A and AAAA are asked once, together; names
 * that are being asked for already are waited for. No search domains, no `/etc/hosts` unless configured.
 */
export function createResolver(options: ResolverOptions): Resolver {
  const dns = new DnsResolver({ timeout: 1_500, tries: 2 });
  if (options.servers.length > 0) dns.setServers([...options.servers]);
  const cache = new Map<string, Entry>();
  const hosts = hostsFile(options.hostsFile);

  const literals = new Map<string, readonly Uint8Array[] | undefined>();

  const ask = (host: string): Promise<readonly Uint8Array[]> => {
    const known = cache.get(host);
    if (known && known.until > performance.now()) return known.answer;
    const asked = query(dns, host, options.timeoutMs);
    const answer = asked.then(({ addresses }) => addresses);
    const entry: Entry = {
      until: performance.now() + CACHE_MAX_MS,
      answer,
      addresses: undefined,
    };
    const keep = (ms: number): void => {
      entry.until = performance.now() + ms;
      cache.delete(host);
      cache.set(host, entry);
      const oldest = cache.keys().next().value;
      if (cache.size > CACHE_MAX_NAMES && oldest !== undefined) cache.delete(oldest);
    };
    keep(CACHE_MAX_MS);
    asked.then(
      ({ addresses, ttlMs }) => {
        entry.addresses = addresses;
        keep(Math.min(ttlMs, CACHE_MAX_MS));
      },
      () => keep(NEGATIVE_MS),
    );
    return answer;
  };

  const literal = (host: string): readonly Uint8Array[] | undefined => {
    if (literals.has(host)) return literals.get(host);
    if (literals.size >= CACHE_MAX_NAMES) literals.clear();
    const bytes = parseIp(host);
    const addresses = bytes && [bytes];
    literals.set(host, addresses);
    return addresses;
  };

  const known = (host: string): readonly Uint8Array[] | undefined => {
    const own = literal(host) ?? (host === 'localhost' ? LOOPBACK : hosts(host));
    if (own) return own;
    const entry = cache.get(host);
    return entry && entry.until > performance.now() ? entry.addresses : undefined;
  };

  return {
    known,
    // `async`, so that what a hosts file throws is a rejection.
    resolve: async (host) => known(host) ?? ask(host),
    close: () => dns.cancel(),
  };
}

const LOOPBACK = ['127.0.0.1', '::1'].map(parseIp).filter((bytes) => bytes !== undefined);

async function query(
  dns: DnsResolver,
  host: string,
  timeoutMs: number,
): Promise<{ addresses: readonly Uint8Array[]; ttlMs: number }> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(timedOut(host)), timeoutMs);
  });
  try {
    const both = Promise.allSettled([
      dns.resolve4(host, { ttl: true }),
      dns.resolve6(host, { ttl: true }),
    ]);
    const results = await Promise.race([both, late]);
    const records = results.flatMap((result) =>
      result.status === 'fulfilled' ? result.value : [],
    );
    const addresses = records.slice(0, ADDRESSES_MAX).map(({ address }) => parseIp(address));
    // A form that cannot be classified must not be left out: it could be the one that is forbidden.
    const known = addresses.filter((bytes) => bytes !== undefined);
    if (known.length === 0 || known.length < addresses.length) throw failed(host, results);
    return { addresses: known, ttlMs: Math.min(...records.map(({ ttl }) => ttl)) * 1_000 };
  } finally {
    clearTimeout(timer);
  }
}

function failed(host: string, results: readonly PromiseSettledResult<unknown>[]): Error {
  const causes: unknown[] = results.flatMap((result) =>
    result.status === 'rejected' ? [result.reason] : [],
  );
  const late = causes.some(
    (cause) => cause instanceof Error && 'code' in cause && cause.code === 'ETIMEOUT',
  );
  return late
    ? timedOut(host)
    : refused('UPSTREAM_UNREACHABLE', `${host} could not be resolved`, 'dns_failed', {
        because: causes[0],
      });
}

function timedOut(host: string): Error {
  return refused('UPSTREAM_TIMEOUT', `${host} could not be resolved in time`, 'dns_timeout');
}

/** Looks a name up in a hosts file; a line that cannot be read is passed over. */
function hostsFile(path: string | undefined): (host: string) => readonly Uint8Array[] | undefined {
  let names = new Map<string, Uint8Array[]>();
  let stamp = '';
  return (host) => {
    if (path === undefined) return undefined;
    const stat = statSync(path, { bigint: true });
    const now = `${stat.ino}.${stat.mtimeNs}`;
    if (now !== stamp) names = readHosts(readFileSync(path, 'utf8'));
    stamp = now;
    return names.get(host);
  };
}

function readHosts(source: string): Map<string, Uint8Array[]> {
  const names = new Map<string, Uint8Array[]>();
  for (const line of source.split('\n')) {
    const [address = '', ...aliases] = (line.split('#', 1)[0] ?? '').trim().split(/\s+/);
    const bytes = parseIp(address);
    if (!bytes) continue;
    for (const alias of aliases)
      names.set(alias.toLowerCase(), [...(names.get(alias.toLowerCase()) ?? []), bytes]);
  }
  return names;
}
