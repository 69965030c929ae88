import { type ConfigOf, type Field, integer, parseBytes, type Spec } from '#core/config';
import { parseRedisUrl, type RedisAddress } from '#core/redis';
import { rateOf } from '#policies';
import { optionalSecretRef } from '../config-fields.ts';
import type { ConfiguredLimits, RateAndBurst } from './limits-of.ts';

const REQUESTS = /^(\d+\/(?:s|min|h|day))(?: burst (\d+))?$/;
const BYTES = /^(\d+(?:B|KiB|MiB|GiB))\/(s|min|h|day)(?: burst (\d+(?:B|KiB|MiB|GiB)))?$/;

/** The keys of the proxy's limits. */
export function limitsSpec() {
  return {
    'limits.datasource': requests(
      'Requests of one principal to one datasource, where the rule names no rate of its own.',
      '60/min burst 10',
    ),
    'limits.principal': requests('Requests of one principal.'),
    'limits.role': requests('Requests of one role of one tenant.'),
    'limits.credential': requests('Requests of everybody with one credential.'),
    'limits.host': requests('Requests of everybody to one host.'),
    'limits.principalBytes': volume('Bytes of one principal, both ways.'),
    'limits.datasourceBytes': volume('Bytes of one principal from and to one datasource.'),
    'limits.redis': redis(
      'Where several proxies keep rates and budgets together: `redis://[user@]host[:port][/database]`, `rediss://` with TLS. Without it each counts for itself.',
    ),
    'limits.redisPassword': optionalSecretRef(
      'The secretRef of the password: `env:NAME`, `file:name` or `store:<instance>:<NAME>`.',
    ),
    'limits.proxies': integer(
      'How many proxies share the limits. While Redis is away each lets through an equal part of a rate, and what it holds of a budget.',
      1,
      1_000,
      1,
    ),
  } satisfies Spec;
}

type LimitsConfig = ConfigOf<ReturnType<typeof limitsSpec>>;

/** The limits of a configuration. */
export function configuredLimits(config: LimitsConfig): ConfiguredLimits {
  return {
    datasource: config['limits.datasource'],
    principal: config['limits.principal'],
    role: config['limits.role'],
    credential: config['limits.credential'],
    host: config['limits.host'],
    principalBytes: config['limits.principalBytes'],
    datasourceBytes: config['limits.datasourceBytes'],
  };
}

/** `60/min burst 10`; the burst is 1 unless told. `none` is no limit. */
function requests(doc: string, fallback = 'none'): Field<RateAndBurst | undefined> {
  return rateField(doc, 'rate (60/min burst 10) | none', fallback, (text) => {
    const [, rate, burst = '1'] = REQUESTS.exec(text) ?? [];
    return rate === undefined ? undefined : { rate: rateOf(rate), burst: Number(burst) };
  });
}

/** `100MiB/min burst 1GiB`; the burst is what a whole period brings unless told. */
function volume(doc: string): Field<RateAndBurst | undefined> {
  return rateField(doc, 'bytes in a time (100MiB/min burst 1GiB) | none', 'none', (text) => {
    const [, amount, unit, burst] = BYTES.exec(text) ?? [];
    if (amount === undefined) return undefined;
    const rate = rateOf(`${parseBytes(amount)}/${unit}`);
    return { rate, burst: burst === undefined ? rate.count : parseBytes(burst) };
  });
}

function rateField(
  doc: string,
  kind: string,
  fallback: string,
  read: (text: string) => RateAndBurst | undefined,
): Field<RateAndBurst | undefined> {
  const parse = (raw: unknown): RateAndBurst | undefined => {
    if (raw === 'none') return undefined;
    const value = typeof raw === 'string' ? read(raw) : undefined;
    if (!value || value.rate.count < 1 || value.burst < 1)
      throw new Error(`must be ${kind}, not ${JSON.stringify(raw)}`);
    return value;
  };
  return { doc, kind, default: parse(fallback), parse, show: () => fallback };
}

function redis(doc: string): Field<RedisAddress | undefined> {
  return {
    doc,
    kind: 'URL of Redis',
    default: undefined,
    parse: (raw) => parseRedisUrl(typeof raw === 'string' ? raw : JSON.stringify(raw)),
  };
}
