import { inCidr } from './ip.ts';
import { classifyIp } from './ip-class.ts';
import { hasExpired, speaks } from './match.ts';
import { queryParameters } from './path.ts';
import { matchesPath } from './path-pattern.ts';
import { matchesQueryValue } from './query-pattern.ts';
import { type AllowRule, type DenyRule, namesHost } from './role-policy.ts';
import type { DatasourceTarget, HostTarget, Target } from './target.ts';

/** One thing that a rule asks for and a target does not have. */
export interface Miss {
  readonly dimension: Dimension;
  /** What the target has and what the rule asks for, for people. */
  readonly text: string;
}

export type Dimension =
  | 'host'
  | 'address'
  | 'datasource'
  | 'port'
  | 'scheme'
  | 'method'
  | 'path'
  | 'query'
  | 'protocol'
  | 'expiry';

/**
 * Everything that keeps an allow rule from allowing `target`, each thing by itself; empty exactly where nothing does. The data
 * path stops at the first (`allowRefusal`); this is for explaining, and for measuring how near a test case comes to a rule.
 */
export function missesOfAllow(rule: AllowRule, target: Target, nowMs: number): Miss[] {
  const { source } = rule;
  const found =
    target.kind === 'datasource' && source.datasource
      ? [datasourceMiss(source.datasource, target), ...requestMisses(rule, target)]
      : target.kind === 'datasource' || source.datasource
        ? [datasourceMiss(source.datasource, target)]
        : [
            placeMiss(rule, target),
            portMiss(rule.ports, target.port),
            ...(target.kind === 'tunnel'
              ? [source.scheme === 'https' ? undefined : miss('scheme', 'a tunnel', 'http alone')]
              : [schemeMiss(rule, target), ...requestMisses(rule, target)]),
          ];
  const expired = hasExpired(source.expiresMs, nowMs)
    ? miss('expiry', 'now', 'a time before it expired')
    : undefined;
  return [...found, expired].filter((one) => one !== undefined);
}

/** The same of a deny rule and what it refuses. `opaque` and `address` as for `denyApplies`. */
export function missesOfDeny(
  rule: DenyRule,
  target: Target,
  opaque: boolean,
  address: Uint8Array | null,
): Miss[] {
  const elsewhere = denyPlaceMisses(rule, target, address);
  // Of another kind of place, everything else would be beside the point.
  if (elsewhere.some(({ dimension }) => dimension === 'datasource')) return elsewhere;
  return [...elsewhere, ...denyRequestMisses(rule, target, opaque)];
}

function denyPlaceMisses(rule: DenyRule, target: Target, address: Uint8Array | null): Miss[] {
  const { datasource } = rule.source;
  if (datasource) return compact([datasourceMiss(datasource, target)]);
  if (target.kind === 'datasource') {
    const aboutHosts = rule.hosts ?? rule.cidrs ?? rule.ports;
    return aboutHosts ? [miss('datasource', nameOf(target), 'hosts alone')] : [];
  }
  const { host, port } = target;
  const named = rule.hosts === null || (!host.ip && namesHost(rule.hosts, host.text));
  const inRange =
    rule.cidrs === null || (address && rule.cidrs.some((cidr) => inCidr(address, cidr)));
  return compact([
    named ? undefined : miss('host', host.text, list(rule.source.hosts ?? [])),
    inRange
      ? undefined
      : miss(
          'address',
          address ? host.text : 'not known before it is resolved',
          list(rule.source.cidrs ?? []),
        ),
    rule.ports ? portMiss(rule.ports, port) : undefined,
  ]);
}

function denyRequestMisses(rule: DenyRule, target: Target, opaque: boolean): Miss[] {
  if (target.kind !== 'tunnel')
    return compact([
      methodMiss(rule.methods, target.method),
      pathMiss(rule.source.paths, rule.paths, target),
    ]);
  // In an opaque tunnel nobody could look; otherwise its requests will be decided one by one.
  if (opaque) return [];
  return compact([
    rule.methods && miss('method', 'not known yet', list([...rule.methods])),
    rule.paths && miss('path', 'not known yet', listOf(rule.source.paths)),
  ]);
}

/** A rule names hosts or addresses, and each kind is one place to miss. */
function placeMiss(
  { hosts, cidrs, source }: AllowRule,
  { host }: Exclude<Target, DatasourceTarget>,
): Miss | undefined {
  const { ip, text } = host;
  if (!ip) {
    if (namesHost(hosts, text)) return undefined;
    return miss('host', text, hosts.length > 0 ? list(source.hosts) : 'addresses alone');
  }
  if (!cidrs.some((cidr) => inCidr(ip, cidr)))
    return miss('address', text, cidrs.length > 0 ? list(source.cidrs) : 'names alone');
  return classifyIp(ip) === 'private' && !source.allowPrivate
    ? miss('address', `${text}, which is private`, 'public addresses')
    : undefined;
}

function requestMisses(rule: AllowRule, target: HostTarget | DatasourceTarget): Miss[] {
  return compact([
    methodMiss(rule.methods, target.method),
    pathMiss(rule.source.paths, rule.paths, target),
    queryMiss(rule, target.query),
    speaks(rule, target)
      ? undefined
      : miss('protocol', target.protocol, list(rule.source.protocols)),
  ]);
}

function schemeMiss({ source, tunnel }: AllowRule, { scheme }: HostTarget): Miss | undefined {
  if (tunnel) return miss('scheme', `a ${scheme} request`, 'opaque tunnels');
  return source.scheme === scheme ? undefined : miss('scheme', scheme, source.scheme);
}

function methodMiss(methods: ReadonlySet<string> | null, method: string): Miss | undefined {
  return methods === null || methods.has(method)
    ? undefined
    : miss('method', method, list([...methods]));
}

function pathMiss(
  written: 'any' | readonly string[],
  paths: AllowRule['paths'],
  { path }: HostTarget | DatasourceTarget,
): Miss | undefined {
  return paths === null || paths.some((pattern) => matchesPath(pattern, path.segments))
    ? undefined
    : miss('path', path.text, listOf(written));
}

function queryMiss({ query: wanted, source }: AllowRule, query: string | null): Miss | undefined {
  if (query === null || (wanted.size === 0 && !source.queryStrict)) return undefined;
  const parameters = queryParameters(query);
  if (!parameters) return miss('query', 'a query of several meanings', 'one meaning');
  for (const [name, value] of parameters) {
    const pattern = wanted.get(name);
    if (!pattern && source.queryStrict)
      return miss('query', `the parameter ${name}`, list([...wanted.keys()]));
    // The value stays out of it: it may be anything, and this is printed.
    if (pattern && !matchesQueryValue(pattern, value))
      return miss('query', `this value of ${name}`, pattern.text);
  }
  return undefined;
}

function portMiss(ports: ReadonlySet<number>, port: number): Miss | undefined {
  return ports.has(port) ? undefined : miss('port', String(port), list([...ports].map(String)));
}

function datasourceMiss(ref: AllowRule['source']['datasource'], target: Target): Miss | undefined {
  const wanted = ref ? `${ref.type}/${ref.name}` : 'hosts alone';
  if (target.kind !== 'datasource') return miss('datasource', 'none', wanted);
  return nameOf(target) === wanted ? undefined : miss('datasource', nameOf(target), wanted);
}

function nameOf({ type, name }: DatasourceTarget): string {
  return `${type}/${name}`;
}

function listOf(words: 'any' | readonly string[]): string {
  return words === 'any' ? 'any' : list(words);
}

const LIST_MAX = 5;

function list(words: readonly string[]): string {
  const shown = words.slice(0, LIST_MAX).join(', ');
  return words.length > LIST_MAX ? `${shown} and ${words.length - LIST_MAX} more` : shown;
}

function miss(dimension: Dimension, has: string, asks: string): Miss {
  return { dimension, text: `${dimension} ${has}: the rule has ${asks}` };
}

function compact<T>(items: readonly (T | undefined | null)[]): T[] {
  return items.filter((item): item is T => item !== undefined && item !== null);
}
