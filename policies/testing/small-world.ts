import type {
  AllowRuleSpec,
  BoundarySpec,
  CredentialBinding,
  DenyRuleSpec,
  EgressPolicy,
  LimitsSpec,
  Method,
} from '../document.ts';
import { binding, egress } from '../fixture.ts';
import { requestTarget } from '../request-line.ts';
import type { Target } from '../target.ts';
import type { Random } from './random.ts';

/**
 * A world so small that every request in it can be decided: few hosts, paths, ports and addresses, and random documents whose
 * patterns meet in it in every way. Each pattern also holds names, segments and values that no pattern spells out.
 */

const PATTERNS = [
  'a.ex.com',
  'b.ex.com',
  'x.a.ex.com',
  '*.ex.com',
  '*.a.ex.com',
  'c.org',
  '*.c.org',
];
const HOSTS = [
  'a.ex.com',
  'b.ex.com',
  'new.ex.com',
  'x.a.ex.com',
  'new.a.ex.com',
  'c.org',
  'new.c.org',
];
const CIDRS = [
  '203.0.113.0/24',
  '203.0.113.0/28',
  '203.0.113.16/28',
  '10.0.0.0/8',
  '10.1.0.0/16',
  '0.0.0.0/0',
];
const ADDRESSES = [
  '203.0.113.1',
  '203.0.113.17',
  '203.0.113.99',
  '10.1.0.1',
  '10.2.0.1',
  '192.0.2.1',
];
const PUBLIC = ADDRESSES.filter((address) => !address.startsWith('10.'));
const PATH_PATTERNS = [
  '/',
  '/a',
  '/a/',
  '/a/**',
  '/*',
  '/a/*',
  '/*/a',
  '/*/**',
  '/b/**',
  '/a/b/**',
  '/k=v',
  '/k%3Dv/**',
  '/**',
];
const PATHS = [
  '/',
  '/a',
  '/a/',
  '/b',
  '/n',
  '/a/a',
  '/a/b',
  '/n/a',
  '/n/n',
  '/a/b/n',
  '/k=v',
  '/k%3Dv',
  '/k=v/n',
  '/k%3Dv/n',
  '/n/',
  '/n/n/n',
];
const QUERIES = ['', '?n=1', '?n=12', '?n=x', '?m=1', '?n=1&m=1', '?n=1&n=x'];
const QUERY_PATTERNS = ['[0-9]', '[0-9]{1,2}', '[0-9]+', 'x|[0-9]', '[a-z]'];
const ACTIONS = ['GET ', 'POST ', 'GET websocket', 'GET http2'];
const METHODS: readonly Method[] = ['GET', 'POST'];
export const PORTS = [443, 80, 8443];
const DATASOURCES = ['prometheus/main', 'http/other'];

/** Every request of the world, and its text. */
export const REQUESTS: readonly { readonly text: string; readonly target: Target }[] = [
  ...HOSTS.flatMap((host) => requestsTo(host, QUERIES)),
  ...ADDRESSES.flatMap((address) => requestsTo(address, ['', '?n=x'])),
  ...DATASOURCES.flatMap((name) =>
    PATHS.flatMap((path) =>
      QUERIES.flatMap((query) => METHODS.map((method) => `${method} /${name}${path}${query}`)),
    ),
  ),
  ...[...HOSTS, ...ADDRESSES].flatMap((host) => PORTS.map((port) => `CONNECT ${host}:${port}`)),
].map((text) => ({ text, target: targetOf(text) }));

/** What names may lead to. */
export const RESOLVED: readonly string[] = PUBLIC;

/** The world's datasources, as rules name them. */
export const REFS: readonly string[] = DATASOURCES;

function requestsTo(host: string, queries: readonly string[]): string[] {
  const places = [`https://${host}`, `https://${host}:8443`, `http://${host}`];
  return places.flatMap((place) =>
    PATHS.flatMap((path) =>
      queries.flatMap((query) =>
        ACTIONS.map((action) => {
          const [method, protocol] = action.split(' ');
          return `${method} ${place}${path}${query} ${protocol}`.trimEnd();
        }),
      ),
    ),
  );
}

/** @throws {Error} where the text is no request */
export function targetOf(text: string): Target {
  const canonical = requestTarget(text);
  if (!canonical.ok) throw new Error(`${text} is no request: ${canonical.reason}`);
  return canonical.target;
}

/** Rules with any of the language's fields that requests can meet. */
export function randomPolicy(
  random: Random,
  name: string,
  credential: string | null,
): EgressPolicy {
  const allow = random.times(1 + random.below(4), (i) => randomAllow(random, `a${i}`, credential));
  const deny = random.times(random.below(4), (i) => randomDeny(random, `d${i}`));
  return egress(name, allow, deny);
}

export function randomAllow(random: Random, id: string, credential: string | null): AllowRuleSpec {
  const limits = random.once(3) ? { limits: randomLimits(random) } : {};
  if (random.once(8)) {
    return { id, datasource: random.pick(DATASOURCES), ...requestPart(random), ...limits };
  }
  const ports = random.once(3) ? { ports: random.some(PORTS) } : {};
  const cidrs = random.once(4);
  const place = cidrs ? cidrPart(random) : { hosts: random.some(PATTERNS) };
  if (random.once(4)) return { id, ...place, ...ports, protocols: ['tunnel'], ...limits };
  const scheme = random.once(5) ? { scheme: 'http' as const } : {};
  const bound =
    credential !== null && !cidrs && !('scheme' in scheme) && random.once(3) ? { credential } : {};
  const protocols = random.once(6)
    ? { protocols: random.some(['http1', 'http2', 'websocket'] as const) }
    : {};
  return {
    id,
    ...place,
    ...ports,
    ...scheme,
    ...requestPart(random),
    ...protocols,
    ...bound,
    ...limits,
  };
}

function cidrPart(random: Random): Pick<AllowRuleSpec, 'cidrs' | 'allowPrivate'> {
  const allowPrivate = random.once(2);
  const cidrs = random.some(allowPrivate ? CIDRS : CIDRS.filter((text) => !text.startsWith('10.')));
  return allowPrivate ? { cidrs, allowPrivate } : { cidrs };
}

function requestPart(random: Random) {
  const query = random.once(3)
    ? {
        query: Object.fromEntries(
          random.some(['n', 'm']).map((name) => [name, random.pick(QUERY_PATTERNS)]),
        ),
        queryStrict: random.once(2),
      }
    : {};
  return {
    methods: random.once(3) ? ('any' as const) : random.some(METHODS),
    paths: random.once(4) ? ('any' as const) : random.some(PATH_PATTERNS),
    ...query,
  };
}

/** A deny rule, or with the same fields a `never` clause. */
export function randomDeny(random: Random, id: string): DenyRuleSpec {
  const methods = random.once(2) ? { methods: random.some(METHODS, 1) } : {};
  const paths = random.once(2) ? { paths: random.some(PATH_PATTERNS) } : {};
  if (random.once(8)) return { id, datasource: random.pick(DATASOURCES), ...methods, ...paths };
  const ports = random.once(4) ? { ports: random.some(PORTS) } : {};
  const hosts = random.once(4) ? {} : { hosts: random.some(PATTERNS) };
  const cidrs = random.once(4) ? { cidrs: random.some(CIDRS) } : {};
  const rule = { id, ...hosts, ...cidrs, ...ports, ...methods, ...paths };
  return Object.keys(rule).length > 1 ? rule : { id, hosts: ['c.org'] };
}

export function randomLimits(random: Random): LimitsSpec {
  return random.pick([
    { rate: '1/s' },
    { rate: '120/min' },
    { rate: '1/s', burst: 5 },
    { concurrent: 2 },
  ]);
}

/** Ceilings that the world's policies often break. */
export function randomBoundary(random: Random): BoundarySpec {
  return {
    ...(random.once(2) ? { neverHosts: random.some(PATTERNS) } : {}),
    ...(random.once(3) ? { neverCidrs: random.some(CIDRS) } : {}),
    ...(random.once(4) ? { neverPorts: random.some(PORTS) } : {}),
    ...(random.once(3) ? { mayHosts: random.some(PATTERNS, 5) } : {}),
    ...(random.once(4) ? { mayMethods: ['GET'] } : {}),
    mayTunnel: !random.once(4),
    mayPrivate: random.once(2) ? ['10.0.0.0/8'] : random.some(['10.1.0.0/16', '192.168.0.0/16']),
  };
}

/** Bindings that often overlap. */
export function randomBinding(random: Random, name: string): CredentialBinding {
  return binding(name, random.some(PATTERNS), {
    paths: random.once(3) ? 'any' : random.some(PATH_PATTERNS),
  });
}
