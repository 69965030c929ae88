import { HostIndex } from './host-index.ts';
import { type HostPattern, matchesHost, parseHostPattern } from './host-pattern.ts';
import { type Cidr, parseCidr } from './ip.ts';
import { type PathPattern, parsePathPattern } from './path-pattern.ts';
import type {
  AllowProjection,
  BoundaryProjection,
  DenyProjection,
  RoleProjection,
} from './projection.ts';
import { parseQueryPattern, type QueryPattern } from './query-pattern.ts';

/**
 * One role's policy, compiled: every pattern parsed, every rule filed under what it names, so that deciding neither throws
 * nor depends on how many rules there are. Sidecar and proxy both decide with this.
 */
export interface RolePolicy {
  readonly projection: RoleProjection;
  readonly boundaries: readonly Boundary[];
  /** In order of precedence. */
  readonly allow: readonly AllowRule[];
  readonly allowByHost: HostIndex<AllowRule>;
  readonly allowByAddress: readonly AllowRule[];
  /** By `<type>/<name>`. */
  readonly allowByDatasource: ReadonlyMap<string, readonly AllowRule[]>;
  readonly deny: readonly DenyRule[];
  readonly denyByHost: HostIndex<DenyRule>;
  /** Those that name no host. */
  readonly denyAnywhere: readonly DenyRule[];
  /** Policies whose refusals are reported instead, while their time runs. */
  readonly reporting: readonly { readonly policy: string; readonly untilMs: number }[];
}

export interface Boundary {
  readonly name: string;
  readonly neverHosts: readonly HostPattern[];
  readonly neverCidrs: readonly Cidr[];
  readonly neverPorts: ReadonlySet<number>;
  readonly mayHosts: readonly HostPattern[] | null;
  readonly mayMethods: ReadonlySet<string> | null;
  readonly mayTunnel: boolean;
  readonly mayPrivate: readonly Cidr[];
}

export interface AllowRule {
  readonly source: AllowProjection;
  readonly policy: string;
  readonly hosts: readonly HostPattern[];
  readonly cidrs: readonly Cidr[];
  readonly ports: ReadonlySet<number>;
  /** null: any. */
  readonly methods: ReadonlySet<string> | null;
  readonly paths: readonly PathPattern[] | null;
  readonly query: ReadonlyMap<string, QueryPattern>;
  readonly tunnel: boolean;
}

export interface DenyRule {
  readonly source: DenyProjection;
  readonly policy: string;
  /** Refusals by this rule are only reported before this time; null: never only reported. */
  readonly reportUntilMs: number | null;
  readonly hosts: readonly HostPattern[] | null;
  readonly cidrs: readonly Cidr[] | null;
  readonly ports: ReadonlySet<number> | null;
  readonly methods: ReadonlySet<string> | null;
  readonly paths: readonly PathPattern[] | null;
}

/**
 * Compiles a projection. The projection must come from `projectRole` or `parseProjection`.
 * @throws {Error} where a pattern is not valid: a projection that was not made from a checked set
 */
export function compileRole(projection: RoleProjection): RolePolicy {
  const allow = projection.policies
    .flatMap(({ name, allow: rules }) => rules.map((rule) => compileAllow(rule, name)))
    .toSorted(byPrecedence);
  const deny = projection.policies.flatMap(({ name, reportUntilMs, deny: rules }) =>
    rules.map((rule) => compileDeny(rule, name, reportUntilMs)),
  );
  return {
    projection,
    boundaries: projection.boundaries.map(compileBoundary),
    allow,
    allowByHost: indexByHost(allow),
    allowByAddress: allow.filter((rule) => rule.cidrs.length > 0),
    allowByDatasource: groupByDatasource(allow),
    deny,
    denyByHost: indexByHost(deny),
    denyAnywhere: deny.filter((rule) => rule.hosts === null),
    reporting: projection.policies.flatMap(({ name, reportUntilMs }) =>
      reportUntilMs === null ? [] : [{ policy: name, untilMs: reportUntilMs }],
    ),
  };
}

export function compileBoundary(source: BoundaryProjection): Boundary {
  return {
    name: source.name,
    neverHosts: source.neverHosts.map(hostPattern),
    neverCidrs: source.neverCidrs.map(cidr),
    neverPorts: new Set(source.neverPorts),
    mayHosts: source.mayHosts?.map(hostPattern) ?? null,
    mayMethods: source.mayMethods && new Set(source.mayMethods),
    mayTunnel: source.mayTunnel,
    mayPrivate: source.mayPrivate.map(cidr),
  };
}

/** Whether any of `patterns` names `host`. */
export function namesHost(patterns: readonly HostPattern[], host: string): boolean {
  return patterns.some((pattern) => matchesHost(pattern, host));
}

function compileAllow(source: AllowProjection, policy: string): AllowRule {
  return {
    source,
    policy,
    hosts: source.hosts.map(hostPattern),
    cidrs: source.cidrs.map(cidr),
    ports: new Set(source.ports),
    methods: anySet(source.methods),
    paths: anyPaths(source.paths),
    query: new Map(Object.entries(source.query).map(([name, text]) => [name, queryPattern(text)])),
    tunnel: source.protocols.includes('tunnel'),
  };
}

function compileDeny(
  source: DenyProjection,
  policy: string,
  reportUntilMs: number | null,
): DenyRule {
  return {
    source,
    policy,
    reportUntilMs,
    hosts: source.hosts?.map(hostPattern) ?? null,
    cidrs: source.cidrs?.map(cidr) ?? null,
    ports: source.ports && new Set(source.ports),
    methods: anySet(source.methods),
    paths: anyPaths(source.paths),
  };
}

/** Where several rules allow one target: with a credential first, then by the names of policy and rule. */
function byPrecedence(a: AllowRule, b: AllowRule): number {
  const rank = (rule: AllowRule) =>
    `${rule.source.credential === null ? 1 : 0} ${rule.policy} ${rule.source.id}`;
  const [left, right] = [rank(a), rank(b)];
  return left < right ? -1 : left > right ? 1 : 0;
}

function indexByHost<R extends { readonly hosts: readonly HostPattern[] | null }>(
  rules: readonly R[],
): HostIndex<R> {
  const index = new HostIndex<R>();
  for (const rule of rules) for (const pattern of rule.hosts ?? []) index.add(pattern, rule);
  return index;
}

function groupByDatasource(rules: readonly AllowRule[]): Map<string, AllowRule[]> {
  const groups = new Map<string, AllowRule[]>();
  for (const rule of rules) {
    const { datasource } = rule.source;
    if (!datasource) continue;
    const key = `${datasource.type}/${datasource.name}`;
    groups.set(key, [...(groups.get(key) ?? []), rule]);
  }
  return groups;
}

function anySet(methods: 'any' | readonly string[]): ReadonlySet<string> | null {
  return methods === 'any' ? null : new Set(methods);
}

function anyPaths(paths: 'any' | readonly string[]): readonly PathPattern[] | null {
  return paths === 'any' ? null : paths.map((text) => parsed(text, parsePathPattern(text)));
}

function hostPattern(text: string): HostPattern {
  return parsed(text, parseHostPattern(text));
}

function queryPattern(text: string): QueryPattern {
  return parsed(text, parseQueryPattern(text));
}

function cidr(text: string): Cidr {
  return parsed(text, parseCidr(text) ?? 'not a range');
}

function parsed<T extends object>(text: string, result: T | string): T {
  if (typeof result === 'string') throw new Error(`"${text}" in a role projection: ${result}`);
  return result;
}
