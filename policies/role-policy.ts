import { AllowIndex } from './allow-index.ts';
import { CidrIndex } from './cidr-index.ts';
import { DenyIndex } from './deny-index.ts';
import { HostIndex } from './host-index.ts';
import { type MethodSet, methodSet } from './method-set.ts';
import type { AllowProjection, BoundaryProjection, RoleProjection } from './projection.ts';
import {
  type AllowRule,
  cidr,
  compileAllow,
  compileDeny,
  type DenyRule,
  hostPattern,
} from './rule.ts';

export { type AllowRule, type DenyRule, namesHost } from './rule.ts';

/**
 * One role's policy, compiled: every pattern parsed, every rule filed under what it names, so that deciding neither throws
 * nor depends on how many rules there are. Sidecar and proxy both decide with this.
 */
export interface RolePolicy {
  readonly projection: RoleProjection;
  readonly boundaries: readonly Boundary[];
  /** In order of precedence. */
  readonly allow: readonly AllowRule[];
  readonly allowIndex: AllowIndex;
  readonly deny: readonly DenyRule[];
  /** Of policies that are enforced. */
  readonly enforcedDenies: DenyIndex;
  /** Of policies that only report, or did until their time was over. */
  readonly reportedDenies: DenyIndex;
  /** Policies whose refusals are reported instead, while their time runs. */
  readonly reporting: readonly { readonly policy: string; readonly untilMs: number }[];
}

export interface Boundary {
  readonly name: string;
  readonly neverHosts: HostIndex<true>;
  readonly neverCidrs: CidrIndex<true>;
  readonly neverPorts: ReadonlySet<number>;
  /** null: no ceiling. */
  readonly mayHosts: HostIndex<true> | null;
  readonly mayMethods: MethodSet;
  readonly mayTunnel: boolean;
  readonly mayPrivate: CidrIndex<true>;
}

/**
 * Compiles a projection. The projection must come from `projectRole` or `parseProjection`.
 * @throws {Error} where a pattern is not valid: a projection that was not made from a checked set
 */
export function compileRole(projection: RoleProjection): RolePolicy {
  const allow = projection.policies
    .flatMap(({ name, allow: rules }) => rules.map((rule) => ({ name, rule })))
    .toSorted(
      (a, b) =>
        byPrecedence(a.rule, b.rule) || byText(a.name, b.name) || byText(a.rule.id, b.rule.id),
    )
    .map(({ name, rule }, order) => compileAllow(rule, name, order));
  const deny = projection.policies
    .flatMap(({ name, reportUntilMs, deny: rules }) =>
      rules.map((rule) => ({ name, rule, reportUntilMs })),
    )
    .map(({ name, rule, reportUntilMs }, order) => compileDeny(rule, name, reportUntilMs, order));
  return {
    projection,
    boundaries: projection.boundaries.map(compileBoundary),
    allow,
    allowIndex: new AllowIndex(allow),
    deny,
    enforcedDenies: new DenyIndex(deny.filter(({ reportUntilMs }) => reportUntilMs === null)),
    reportedDenies: new DenyIndex(deny.filter(({ reportUntilMs }) => reportUntilMs !== null)),
    reporting: projection.policies.flatMap(({ name, reportUntilMs }) =>
      reportUntilMs === null ? [] : [{ policy: name, untilMs: reportUntilMs }],
    ),
  };
}

export function compileBoundary(source: BoundaryProjection): Boundary {
  return {
    name: source.name,
    neverHosts: hostSet(source.neverHosts),
    neverCidrs: cidrSet(source.neverCidrs),
    neverPorts: new Set(source.neverPorts),
    mayHosts: source.mayHosts && hostSet(source.mayHosts),
    mayMethods: methodSet(source.mayMethods ?? 'any'),
    mayTunnel: source.mayTunnel,
    mayPrivate: cidrSet(source.mayPrivate),
  };
}

/** Where several rules allow one target: with a credential first, then by the names of policy and rule. */
function byPrecedence(a: AllowProjection, b: AllowProjection): number {
  return (a.credential === null ? 1 : 0) - (b.credential === null ? 1 : 0);
}

function byText(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

function hostSet(patterns: readonly string[]): HostIndex<true> {
  return HostIndex.of(
    patterns.map((text) => [hostPattern(text), text] as const),
    () => true as const,
  );
}

function cidrSet(cidrs: readonly string[]): CidrIndex<true> {
  return CidrIndex.of(
    cidrs.map((text) => [cidr(text), text] as const),
    () => true as const,
  );
}
