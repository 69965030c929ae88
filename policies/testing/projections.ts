import type { Method, Protocol } from '../document.ts';
import type {
  AllowProjection,
  BoundaryProjection,
  DenyProjection,
  PolicyProjection,
  RoleProjection,
} from '../projection.ts';
import type { Random } from './random.ts';

/** Random policies of a role, and requests that have much to do with them: a small world, so that rules meet. */

export const NOW = 1_000_000;
const HOSTS = [
  'example.com',
  'a.example.com',
  'b.example.com',
  'x.a.example.com',
  'aexample.com',
  'other.test',
];
const PATTERNS = [
  ...HOSTS,
  '*.example.com',
  '*.a.example.com',
  '*.other.test',
  '*.x.a.example.com',
];
const CIDRS = [
  '203.0.113.0/24',
  '203.0.113.7/32',
  '203.0.112.0/22',
  '10.0.0.0/8',
  '10.1.0.0/16',
  '2606::/16',
  '2606:1::/32',
  'fd00::/8',
  '0.0.0.0/0',
];
const ADDRESSES = [
  '203.0.113.7',
  '203.0.113.9',
  '203.0.112.1',
  '10.1.2.3',
  '10.2.0.1',
  '198.51.100.1',
  '[2606:1::5]',
  '[2606:2::5]',
  '[fd00::1]',
];
const DATASOURCES = ['prometheus/main', 'http/api', 'loki/logs'];
const METHODS: readonly Method[] = ['GET', 'POST', 'DELETE'];
const PORTS = [80, 443, 8443];
const PATHS = ['/', '/a', '/a/', '/a/b', '/a/b/c', '/b', '/b/c', '/a/c', '/c/b/a'];
const PATH_PATTERNS = [
  '/',
  '/a',
  '/a/',
  '/a/**',
  '/**',
  '/*',
  '/a/*',
  '/*/b',
  '/*/b/**',
  '/a/b/c',
  '/*/*/*',
  '/b/**',
  '/c/*/a',
];
const QUERIES = [
  '',
  '',
  '?',
  '?page=1',
  '?page=x',
  '?page=1&page=x',
  '?p%61ge=7',
  '?scope=read',
  '?scope=admin&page=1',
  '?a;b',
  '?%zz',
  '?page=%00',
];
const QUERY_RULES = [
  { page: '[0-9]+' },
  { page: '[0-9]{1,2}|x', scope: 'read' },
  { scope: 'read|write?' },
];
const PROTOCOLS: readonly (readonly Protocol[])[] = [
  ['http1', 'http2'],
  ['http1', 'http2'],
  ['http2'],
  ['websocket', 'http1'],
  ['grpc'],
];
const TIMES = [null, null, null, NOW, NOW + 1, NOW - 1, 0, NOW + 1_000];

export function randomProjection(random: Random): RoleProjection {
  return {
    version: 1,
    role: 'analyst',
    tenant: 'acme',
    expiresMs: random.once(40) ? random.pick(TIMES) : null,
    boundaries: random.once(4) ? random.times(1 + random.below(2), (i) => boundary(random, i)) : [],
    policies: random.once(60) ? [] : random.times(1 + random.below(3), (i) => policy(random, i)),
  };
}

function policy(random: Random, i: number): PolicyProjection {
  return {
    name: `p${i}`,
    expiresMs: null,
    reportUntilMs: random.once(4) ? (random.pick(TIMES) ?? NOW + 5) : null,
    allow: random.times(random.below(12), (j) => allowRule(random, `a${j}`)),
    deny: random.times(random.once(2) ? random.below(4) : 0, (j) => denyRule(random, `d${j}`)),
  };
}

function boundary(random: Random, i: number): BoundaryProjection {
  const seldom = <T>(list: readonly T[]): T[] => (random.once(4) ? random.some(list) : []);
  return {
    name: `b${i}`,
    neverHosts: seldom(PATTERNS),
    neverCidrs: seldom(CIDRS.slice(0, 8)),
    neverPorts: random.once(6) ? [8443] : [],
    mayHosts: random.once(4) ? random.some(PATTERNS, 5) : null,
    mayMethods: random.once(5) ? random.some(METHODS, 3) : null,
    mayTunnel: !random.once(4),
    mayPrivate: random.once(2) ? random.some(['10.0.0.0/8', '10.1.0.0/16', 'fd00::/8'], 3) : [],
  };
}

const NOTHING = { hosts: [], cidrs: [], allowPrivate: false, datasource: null } as const;

function allowRule(random: Random, id: string): AllowProjection {
  const tunnel = random.once(5);
  const named = random.below(5);
  const datasource = named === 0 && !tunnel;
  const scheme = tunnel || datasource || !random.once(4) ? 'https' : 'http';
  const requests = {
    methods: random.once(3) ? ('any' as const) : random.some(METHODS),
    paths: random.once(4) ? ('any' as const) : random.some(PATH_PATTERNS),
    query: random.once(4) ? random.pick(QUERY_RULES) : {},
    protocols: random.pick(PROTOCOLS),
    credential: random.once(3) ? random.pick(['c1', 'c2']) : null,
  };
  return {
    id,
    expiresMs: random.once(4) ? random.pick(TIMES) : null,
    ...NOTHING,
    ...(datasource
      ? { datasource: refOf(random.pick(DATASOURCES)) }
      : named === 1
        ? { cidrs: random.some(CIDRS), allowPrivate: random.once(2) }
        : { hosts: random.some(PATTERNS) }),
    scheme,
    ports: random.once(3) ? random.some(PORTS) : [scheme === 'http' ? 80 : 443],
    ...(tunnel
      ? { methods: 'any', paths: 'any', query: {}, protocols: ['tunnel'], credential: null }
      : requests),
    queryStrict: !tunnel && random.once(5),
    limits: {},
    guard: null,
  };
}

function denyRule(random: Random, id: string): DenyProjection {
  const seldom = <T>(often: number, list: readonly T[]): T[] | null =>
    random.once(often) ? random.some(list) : null;
  const datasource = random.once(6) ? refOf(random.pick(DATASOURCES)) : null;
  return {
    id,
    datasource,
    hosts: datasource || random.once(3) ? null : random.some(PATTERNS),
    cidrs: datasource ? null : seldom(5, CIDRS),
    ports: datasource ? null : seldom(4, PORTS),
    methods: seldom(2, METHODS) ?? 'any',
    paths: seldom(2, PATH_PATTERNS) ?? 'any',
  };
}

function refOf(text: string): NonNullable<AllowProjection['datasource']> {
  const [type, name = ''] = text.split('/');
  if (type !== 'prometheus' && type !== 'http' && type !== 'loki') throw new Error(text);
  return { type, name };
}

/** A request as PolicyTests write it. */
export function randomRequestOf(random: Random): string {
  const path = `${random.pick(PATHS)}${random.pick(QUERIES)}`;
  const [method, word] = random.pick([
    ...METHODS.map((each) => [each, ''] as const),
    ...METHODS.map((each) => [each, ''] as const),
    ['GET', ' http2'],
    ['GET', ' websocket'],
    ['POST', ' grpc'],
  ]);
  const place = random.once(6)
    ? random.pick(ADDRESSES)
    : random.pick(random.once(30) ? ['localhost', 'metadata.goog'] : HOSTS);
  const scheme = random.pick(['http', 'https', 'https', 'https']);
  const port = random.once(3) ? random.pick(PORTS) : scheme === 'http' ? 80 : 443;
  const authority = `${place}:${port}`;
  if (random.once(4)) return `CONNECT ${authority}`;
  if (random.once(6)) return `${method} /${random.pick(DATASOURCES)}${path}${word}`;
  return `${method} ${scheme}://${authority}${path}${word}`;
}

/** Addresses that a name might lead to. */
export const DIALLED = [...ADDRESSES.map((text) => text.replace(/[[\]]/g, '')), '127.0.0.1', '::1'];
