import { inCidr } from './ip.ts';
import { classifyIp } from './ip-class.ts';
import { ANY_METHOD, hasMethod } from './method-set.ts';
import { queryParameters } from './path.ts';
import { matchesPath } from './path-pattern.ts';
import { matchesQueryValue } from './query-pattern.ts';
import type { Reason } from './reason.ts';
import { type AllowRule, type DenyRule, namesHost } from './rule.ts';
import type { DatasourceTarget, HostTarget, Target, TunnelTarget } from './target.ts';

/**
 * Why an allow rule does not allow `target`, of which it names the host or datasource already; undefined where it does.
 * A rule that looks at requests lets a tunnel through for interception: its requests are decided one by one.
 */
export function allowRefusal(rule: AllowRule, target: Target, nowMs: number): Reason | undefined {
  return (
    addressRefusal(rule, target) ??
    (target.kind === 'tunnel' ? tunnelRefusal(rule, target) : requestRefusal(rule, target)) ??
    (isAlive(rule, nowMs) ? undefined : 'policy_expired')
  );
}

/** Whether an allow rule names the host, address or datasource of `target`, whatever else it asks for. */
export function allowNames(rule: AllowRule, target: Target): boolean {
  if (target.kind === 'datasource') return namesDatasource(rule.source.datasource, target);
  const { ip, text } = target.host;
  return ip ? rule.cidrs.some((cidr) => inCidr(ip, cidr)) : namesHost(rule.hosts, text);
}

/**
 * Whether a deny rule refuses `target`. In an opaque tunnel nobody sees method and path, so the rule refuses whatever might
 * be one of its requests. `address` is the one about to be dialled; before it is known, a rule with `cidrs` waits.
 */
export function denyApplies(
  rule: DenyRule,
  target: Target,
  opaque: boolean,
  address: Uint8Array | null,
): boolean {
  if (rule.source.datasource || target.kind === 'datasource') {
    return (
      target.kind === 'datasource' && denyNamesDatasource(rule, target) && requestFits(rule, target)
    );
  }
  if (rule.hosts && (target.host.ip || !namesHost(rule.hosts, target.host.text))) return false;
  if (rule.cidrs && !(address && rule.cidrs.some((cidr) => inCidr(address, cidr)))) return false;
  if (rule.ports && !rule.ports.has(target.port)) return false;
  if (target.kind === 'host') return requestFits(rule, target);
  return opaque || (rule.methodSet === ANY_METHOD && rule.paths === null);
}

/** Whether a rule whose host, method and path fit allows the request: its query, its protocol, its time. */
export function isUsable(
  rule: AllowRule,
  target: HostTarget | DatasourceTarget,
  nowMs: number,
): boolean {
  return queryFits(rule, target) && speaks(rule, target) && isAlive(rule, nowMs);
}

/** Every value of a parameter that the rule names must match; others are let through unless the rule is strict. */
export function queryFits(
  { query: wanted, source }: AllowRule,
  { query }: HostTarget | DatasourceTarget,
): boolean {
  if (query === null || (wanted.size === 0 && !source.queryStrict)) return true;
  const parameters = queryParameters(query);
  if (!parameters) return false;
  return parameters.every(([name, value]) => {
    const pattern = wanted.get(name);
    return pattern ? matchesQueryValue(pattern, value) : !source.queryStrict;
  });
}

/** Whether the rule names the protocol that the request speaks. */
export function speaks({ source }: AllowRule, target: HostTarget | DatasourceTarget): boolean {
  return source.protocols.includes(target.protocol);
}

export function isAlive({ source }: AllowRule, nowMs: number): boolean {
  return !hasExpired(source.expiresMs, nowMs);
}

export function hasExpired(atMs: number | null, nowMs: number): boolean {
  // The comparison is turned so that a broken time counts as expired.
  return atMs !== null && !(nowMs < atMs);
}

/** Rules with addresses are not filed under them, and a private address needs the rule's own word. */
function addressRefusal(rule: AllowRule, target: Target): Reason | undefined {
  if (target.kind === 'datasource' || !target.host.ip) return undefined;
  if (!allowNames(rule, target)) return 'ip_not_allowed';
  const needsWord = classifyIp(target.host.ip) === 'private' && !rule.source.allowPrivate;
  return needsWord ? 'ip_forbidden_class' : undefined;
}

function tunnelRefusal(rule: AllowRule, target: TunnelTarget): Reason | undefined {
  if (!rule.ports.has(target.port)) return portReason(target);
  return rule.source.scheme === 'https' ? undefined : 'connect_not_allowed';
}

function requestRefusal(
  rule: AllowRule,
  target: HostTarget | DatasourceTarget,
): Reason | undefined {
  if (target.kind === 'host') {
    if (!rule.ports.has(target.port)) return portReason(target);
    if (rule.source.scheme !== target.scheme || rule.tunnel) return 'scheme_not_allowed';
  }
  if (!hasMethod(rule.methodSet, target.method)) return 'method_not_allowed';
  if (rule.paths && !rule.paths.some((path) => matchesPath(path, target.path.segments))) {
    return 'path_not_allowed';
  }
  if (!queryFits(rule, target)) return 'query_not_allowed';
  return speaks(rule, target) ? undefined : 'protocol_not_allowed';
}

function requestFits(rule: DenyRule, target: HostTarget | DatasourceTarget): boolean {
  if (!hasMethod(rule.methodSet, target.method)) return false;
  return rule.paths === null || rule.paths.some((path) => matchesPath(path, target.path.segments));
}

/** A rule that names neither host, address, port nor datasource is about requests to anywhere. */
function denyNamesDatasource(rule: DenyRule, target: DatasourceTarget): boolean {
  if (rule.source.datasource) return namesDatasource(rule.source.datasource, target);
  return rule.hosts === null && rule.cidrs === null && rule.ports === null;
}

function namesDatasource(
  ref: { readonly type: string; readonly name: string } | null,
  target: DatasourceTarget,
): boolean {
  return ref?.type === target.type && ref.name === target.name;
}

function portReason(target: HostTarget | TunnelTarget): Reason {
  return target.host.ip ? 'ip_not_allowed' : 'port_not_allowed';
}
