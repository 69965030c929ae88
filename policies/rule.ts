import { type HostPattern, matchesHost, parseHostPattern } from './host-pattern.ts';
import { type Cidr, parseCidr } from './ip.ts';
import { type MethodSet, methodSet } from './method-set.ts';
import { type PathPattern, parsePathPattern } from './path-pattern.ts';
import type { AllowProjection, DenyProjection } from './projection.ts';
import { parseQueryPattern, type QueryPattern } from './query-pattern.ts';

export interface AllowRule {
  readonly source: AllowProjection;
  readonly policy: string;
  readonly hosts: readonly HostPattern[];
  readonly cidrs: readonly Cidr[];
  readonly ports: ReadonlySet<number>;
  /** null: any. */
  readonly methods: ReadonlySet<string> | null;
  readonly methodSet: MethodSet;
  /** null: any. */
  readonly paths: readonly PathPattern[] | null;
  /** Its place in the order of precedence. */
  readonly order: number;
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
  /** null: any. */
  readonly methods: ReadonlySet<string> | null;
  readonly methodSet: MethodSet;
  /** null: any. */
  readonly paths: readonly PathPattern[] | null;
  /** Its place among the deny rules. */
  readonly order: number;
}

/** Whether any of `patterns` names `host`. */
export function namesHost(patterns: readonly HostPattern[], host: string): boolean {
  return patterns.some((pattern) => matchesHost(pattern, host));
}

/** @throws {Error} where a pattern is not valid: a projection that was not made from a checked set */
export function compileAllow(source: AllowProjection, policy: string, order: number): AllowRule {
  return {
    source,
    policy,
    hosts: source.hosts.map(hostPattern),
    cidrs: source.cidrs.map(cidr),
    ports: new Set(source.ports),
    methods: source.methods === 'any' ? null : new Set(source.methods),
    methodSet: methodSet(source.methods),
    paths: anyPaths(source.paths),
    order,
    query: new Map(Object.entries(source.query).map(([name, text]) => [name, queryPattern(text)])),
    tunnel: source.protocols.includes('tunnel'),
  };
}

/** @throws {Error} as `compileAllow` */
export function compileDeny(
  source: DenyProjection,
  policy: string,
  reportUntilMs: number | null,
  order: number,
): DenyRule {
  return {
    source,
    policy,
    reportUntilMs,
    hosts: source.hosts?.map(hostPattern) ?? null,
    cidrs: source.cidrs?.map(cidr) ?? null,
    ports: source.ports && new Set(source.ports),
    methods: source.methods === 'any' ? null : new Set(source.methods),
    methodSet: methodSet(source.methods),
    paths: anyPaths(source.paths),
    order,
  };
}

function anyPaths(paths: 'any' | readonly string[]): readonly PathPattern[] | null {
  return paths === 'any' ? null : paths.map((text) => parsed(text, parsePathPattern(text)));
}

export function hostPattern(text: string): HostPattern {
  return parsed(text, parseHostPattern(text));
}

function queryPattern(text: string): QueryPattern {
  return parsed(text, parseQueryPattern(text));
}

export function cidr(text: string): Cidr {
  return parsed(text, parseCidr(text) ?? 'not a range');
}

function parsed<T extends object>(text: string, result: T | string): T {
  if (typeof result === 'string') throw new Error(`"${text}" in a role projection: ${result}`);
  return result;
}
