import { OutriderError } from '#core/errors';
import { isRecord } from '#core/is-record';
import { QUERY_ENDPOINTS } from './datasource/api-part.ts';
import { S3_OPERATIONS } from './datasource/s3.ts';
import type {
  DatasourceType,
  Method,
  Protocol,
  QueryEndpoint,
  S3Operation,
  Scheme,
} from './document.ts';
import type {
  AllowProjection,
  BoundaryProjection,
  ClickhouseGuard,
  DatasourceRef,
  DenyProjection,
  Guard,
  Limits,
  MetricsGuard,
  PolicyProjection,
  RoleProjection,
  S3Guard,
} from './projection.ts';
import { DATASOURCE_TYPES, METHODS } from './target.ts';
import type { RateValue } from './units.ts';

/**
 * A projection as it came over the wire. Every field must be there and be what it is, and no other: a restriction that this
 * version does not know must not be lost on the way.
 * @throws {OutriderError} POLICY_INVALID
 */
export function parseProjection(json: string): RoleProjection {
  try {
    return role(JSON.parse(json));
  } catch (error) {
    throw new OutriderError('POLICY_INVALID', 'the policy that came with the exec is not valid', {
      cause: error,
    });
  }
}

type Read<T> = (value: unknown) => T;
type Fields<T> = { readonly [K in keyof T]-?: Read<T[K]> };

const SCHEMES = ['http', 'https'] as const satisfies readonly Scheme[];
const PROTOCOLS = [
  'http1',
  'http2',
  'grpc',
  'websocket',
  'tunnel',
] as const satisfies readonly Protocol[];

const text: Read<string> = (value) => (typeof value === 'string' ? value : fail('text', value));
const bool: Read<boolean> = (value) =>
  typeof value === 'boolean' ? value : fail('true or false', value);
const number: Read<number> = (value) =>
  typeof value === 'number' && Number.isFinite(value) && value >= 0
    ? value
    : fail('a number', value);
const port: Read<number> = (value) =>
  typeof value === 'number' && Number.isInteger(value) && value > 0 && value < 65_536
    ? value
    : fail('a port', value);
const orNull =
  <T>(read: Read<T>): Read<T | null> =>
  (value) =>
    value === null ? null : read(value);
const orAny =
  <T>(read: Read<T>): Read<T | 'any'> =>
  (value) =>
    value === 'any' ? 'any' : read(value);
const list =
  <T>(read: Read<T>): Read<readonly T[]> =>
  (value) =>
    Array.isArray(value) ? value.map(read) : fail('a list', value);
const oneOf =
  <T extends string>(words: readonly T[]): Read<T> =>
  (value) =>
    words.find((word) => word === value) ?? fail(`one of ${words.join(', ')}`, value);
const map: Read<Readonly<Record<string, string>>> = (value) =>
  Object.fromEntries(Object.entries(record(value)).map(([key, item]) => [key, text(item)]));

const methods = orAny(list(oneOf<Method>(METHODS)));
const paths = orAny(list(text));
const datasource = fields<DatasourceRef>({
  type: oneOf<DatasourceType>(DATASOURCE_TYPES),
  name: text,
});
const rate = fields<RateValue>({ count: number, perMs: number });
const limits = someFields<Limits>({
  rate,
  burst: number,
  concurrent: number,
  requestBytes: number,
  responseBytes: number,
  durationMs: number,
  rows: number,
  scanBytes: number,
  queryTimeMs: number,
  rangeMs: number,
  stepMs: number,
});
const metricsGuard = (type: 'prometheus' | 'loki') =>
  fields<MetricsGuard>({
    type: oneOf([type]),
    labels: map,
    endpoints: orAny(list(oneOf<QueryEndpoint>(QUERY_ENDPOINTS))),
  });
const GUARDS: Readonly<Record<Guard['type'], Read<Guard>>> = {
  prometheus: metricsGuard('prometheus'),
  loki: metricsGuard('loki'),
  clickhouse: fields<ClickhouseGuard>({
    type: oneOf(['clickhouse']),
    tables: orAny(list(text)),
    functions: list(text),
    settings: list(text),
  }),
  s3: fields<S3Guard>({
    type: oneOf(['s3']),
    prefixes: orAny(list(text)),
    operations: list(oneOf<S3Operation>(S3_OPERATIONS)),
  }),
};
const GUARDED = [
  'prometheus',
  'loki',
  'clickhouse',
  's3',
] as const satisfies readonly Guard['type'][];
const guard: Read<Guard> = (value) => GUARDS[oneOf(GUARDED)(record(value)['type'])](value);
const allow = fields<AllowProjection>({
  id: text,
  expiresMs: orNull(number),
  hosts: list(text),
  cidrs: list(text),
  allowPrivate: bool,
  datasource: orNull(datasource),
  scheme: oneOf<Scheme>(SCHEMES),
  ports: list(port),
  methods,
  paths,
  query: map,
  queryStrict: bool,
  protocols: list(oneOf<Protocol>(PROTOCOLS)),
  credential: orNull(text),
  limits,
  guard: orNull(guard),
});
const deny = fields<DenyProjection>({
  id: text,
  hosts: orNull(list(text)),
  cidrs: orNull(list(text)),
  datasource: orNull(datasource),
  ports: orNull(list(port)),
  methods,
  paths,
});
const policy = fields<PolicyProjection>({
  name: text,
  expiresMs: orNull(number),
  reportUntilMs: orNull(number),
  allow: list(allow),
  deny: list(deny),
});
const boundary = fields<BoundaryProjection>({
  name: text,
  neverHosts: list(text),
  neverCidrs: list(text),
  neverPorts: list(port),
  mayHosts: orNull(list(text)),
  mayMethods: orNull(list(oneOf<Method>(METHODS))),
  mayTunnel: bool,
  mayPrivate: list(text),
});
const role = fields<RoleProjection>({
  version: (value) => (value === 1 ? 1 : fail('version 1', value)),
  role: text,
  tenant: text,
  expiresMs: orNull(number),
  boundaries: list(boundary),
  policies: list(policy),
});

/** Reads exactly these fields. */
function fields<T extends object>(readers: Fields<T>): Read<T> {
  return (value) => {
    const source = record(value);
    const known = Object.keys(readers);
    const missing = known.find((key) => !Object.hasOwn(source, key));
    if (missing !== undefined) fail(`a map with ${missing}`, value);
    return take<T>(readers, source);
  };
}

/** Reads these fields where they are there. */
function someFields<T extends object>(readers: Fields<T>): Read<T> {
  return (value) => take<T>(readers, record(value));
}

function take<T extends object>(readers: Fields<T>, source: Record<string, unknown>): T {
  const readerOf = new Map<string, Read<unknown>>(Object.entries<Read<unknown>>(readers));
  const taken = Object.entries(source).map(([key, item]) => {
    const read = readerOf.get(key) ?? fail('nothing more', key);
    return [key, read(item)] as const;
  });
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- every key of T that is there was read by its own reader above
  return Object.fromEntries(taken) as T;
}

function record(value: unknown): Record<string, unknown> {
  return isRecord(value) ? value : fail('a map', value);
}

function fail(expected: string, found: unknown): never {
  throw new TypeError(`expected ${expected}, found ${JSON.stringify(found)?.slice(0, 80)}`);
}
