import type { Protocol } from './document.ts';
import { FORBIDDEN_NAMES, isLocalName } from './host-pattern.ts';
import { inCidr } from './ip.ts';
import { classifyIp } from './ip-class.ts';
import { allowRefusal, denyApplies, hasExpired } from './match.ts';
import type { DatasourceRef, Limits } from './projection.ts';
import type { Reason } from './reason.ts';
import {
  type AllowRule,
  type Boundary,
  type DenyRule,
  namesHost,
  type RolePolicy,
} from './role-policy.ts';
import type { Target } from './target.ts';

/** Every decision says which rule made it. */
export type Decision = AllowDecision | DenyDecision;

export interface AllowDecision {
  readonly verdict: 'allow';
  /** The rule's id; `report` where only report mode lets the target through. */
  readonly rule: string;
  /** The EgressPolicy that holds the rule. */
  readonly policy: string;
  /** The CredentialBinding to inject; null: none. */
  readonly credential: string | null;
  readonly datasource: DatasourceRef | null;
  readonly limits: Limits;
  readonly protocols: readonly Protocol[];
  /**
   * For a tunnel: true means that TLS must be intercepted and each request inside decided for itself; the tunnel must not be
   * passed on as it is, and `authorize` refuses to. False: pass it on opaquely. For requests always false.
   */
  readonly intercept: boolean;
  /** What would have refused the target if its policy were enforced. Put it into the audit. */
  readonly reported?: { readonly reason: Reason; readonly rule: string | null };
}

export interface DenyDecision {
  readonly verdict: 'deny';
  readonly reason: Reason;
  /** A deny rule's id, or `boundary:<name>`. Null where no rule named the target. */
  readonly rule: string | null;
  /** The EgressPolicy that holds the rule; null where no policy does. */
  readonly policy: string | null;
}

/**
 * Whether `target` may be reached at `nowMs`. Pure and total: Boundary deny, then policy deny, then policy allow, then deny.
 * Deny beats allow, what no rule names is denied, and so is everything in doubt. What a name resolves to is decided by
 * `addressRefusal`, once it is known.
 */
export function decide(policy: RolePolicy, target: Target, nowMs: number): Decision {
  if (policy.projection.policies.length === 0) return deny('no_policy');
  if (hasExpired(policy.projection.expiresMs, nowMs)) return deny('policy_expired');

  const forbidden = alwaysForbidden(policy, target) ?? outsideBoundary(policy.boundaries, target);
  if (forbidden) return forbidden;

  const found = findAllow(policy, target, nowMs);
  // A tunnel that no rule wants to look into is opaque, also where only report mode would let it through.
  const opaque = target.kind === 'tunnel' && (found.rule?.tunnel ?? true);
  const denied = findDeny(policy, target, opaque, nowMs);
  const refusal =
    denied ?? (found.rule ? tunnelCeiling(policy.boundaries, opaque) : deny(found.reason));
  if (refusal) return reportMode(policy, target, refusal, nowMs) ?? refusal;
  if (!found.rule) return deny(found.reason);
  const reported = findReportedDeny(policy, target, opaque, nowMs);
  return allow(found.rule, target, reported);
}

/** Names and addresses that no rule opens, whatever it says. */
function alwaysForbidden({ boundaries }: RolePolicy, target: Target): DenyDecision | undefined {
  if (target.kind === 'datasource') return undefined;
  const { host } = target;
  if (!host.ip) {
    if (isLocalName(host)) return deny('ip_forbidden_class');
    return FORBIDDEN_NAMES.includes(host.text) ? deny('host_denied') : undefined;
  }
  const kind = classifyIp(host.ip);
  // Private addresses take the consent of a Boundary, so there must be one.
  const possible = kind === 'public' || (kind === 'private' && boundaries.length > 0);
  return possible ? undefined : deny('ip_forbidden_class');
}

/** The first Boundary that refuses. */
function outsideBoundary(
  boundaries: readonly Boundary[],
  target: Target,
): DenyDecision | undefined {
  for (const boundary of boundaries) {
    const reason = boundaryReason(boundary, target);
    if (reason) return deny(reason, `boundary:${boundary.name}`);
  }
  return undefined;
}

function boundaryReason(boundary: Boundary, target: Target): Reason | undefined {
  if (target.kind !== 'tunnel' && boundary.mayMethods && !boundary.mayMethods.has(target.method)) {
    return 'method_not_allowed';
  }
  if (target.kind === 'datasource') return undefined;
  const { ip, text } = target.host;
  if (boundary.neverPorts.has(target.port)) return 'port_forbidden_class';
  if (ip) {
    if (boundary.neverCidrs.some((cidr) => inCidr(ip, cidr))) return 'ip_forbidden_class';
    // A ceiling of names holds no address, but for those that the Boundary consents to.
    const consented = boundary.mayPrivate.some((cidr) => inCidr(ip, cidr));
    if (classifyIp(ip) === 'private' ? !consented : boundary.mayHosts) return 'ip_not_allowed';
    return undefined;
  }
  if (namesHost(boundary.neverHosts, text)) return 'host_denied';
  return boundary.mayHosts && !namesHost(boundary.mayHosts, text) ? 'host_not_allowed' : undefined;
}

function tunnelCeiling(boundaries: readonly Boundary[], opaque: boolean): DenyDecision | undefined {
  const boundary = opaque ? boundaries.find(({ mayTunnel }) => !mayTunnel) : undefined;
  return boundary && deny('connect_not_allowed', `boundary:${boundary.name}`);
}

/**
 * The rule that allows `target`, or else why the nearest one does not. A rule that looks at requests goes before an opaque
 * tunnel, and the more specific host before the wildcard; then precedence as compiled.
 */
function findAllow(
  policy: RolePolicy,
  target: Target,
  nowMs: number,
): { readonly rule: AllowRule } | { readonly rule?: undefined; readonly reason: Reason } {
  let best: AllowRule | undefined;
  let nearest: Reason = unnamedReason(target);
  for (const bucket of candidates(policy, target)) {
    for (const rule of bucket) {
      const refusal = allowRefusal(rule, target, nowMs);
      if (refusal) nearest = nearerOf(nearest, refusal);
      else if (!best || goesBefore(rule, best)) best = rule;
    }
  }
  return best ? { rule: best } : { reason: nearest };
}

function* candidates(policy: RolePolicy, target: Target): Generator<readonly AllowRule[]> {
  if (target.kind === 'datasource') {
    yield policy.allowByDatasource.get(`${target.type}/${target.name}`) ?? [];
  } else if (target.host.ip) yield policy.allowByAddress;
  else yield* policy.allowByHost.buckets(target.host.text);
}

/** Within a bucket the compiled order stands already; between buckets only these two count. */
function goesBefore(rule: AllowRule, best: AllowRule): boolean {
  if (rule.tunnel !== best.tunnel) return best.tunnel;
  return rule.source.credential !== null && best.source.credential === null;
}

/** The more of a rule fits, the more its refusal says. */
const NEARNESS: readonly Reason[] = [
  'host_not_allowed',
  'ip_not_allowed',
  'alias_unknown',
  'port_not_allowed',
  'ip_forbidden_class',
  'scheme_not_allowed',
  'connect_not_allowed',
  'method_not_allowed',
  'path_not_allowed',
  'query_not_allowed',
  'policy_expired',
];

function nearerOf(a: Reason, b: Reason): Reason {
  return NEARNESS.indexOf(b) > NEARNESS.indexOf(a) ? b : a;
}

/** Why a target is refused that no rule names. */
export function unnamedReason(target: Target): Reason {
  if (target.kind === 'datasource') return 'alias_unknown';
  return target.host.ip ? 'ip_not_allowed' : 'host_not_allowed';
}

function findDeny(
  policy: RolePolicy,
  target: Target,
  opaque: boolean,
  nowMs: number,
): DenyDecision | undefined {
  for (const rule of denials(policy, target, opaque)) {
    if (!isReporting(rule.reportUntilMs, nowMs)) return denyBy(rule, target);
  }
  return undefined;
}

function findReportedDeny(
  policy: RolePolicy,
  target: Target,
  opaque: boolean,
  nowMs: number,
): DenyDecision | undefined {
  for (const rule of denials(policy, target, opaque)) {
    if (isReporting(rule.reportUntilMs, nowMs)) return denyBy(rule, target);
  }
  return undefined;
}

function* denials(policy: RolePolicy, target: Target, opaque: boolean): Generator<DenyRule> {
  const address = target.kind === 'datasource' ? null : target.host.ip;
  const applies = (rule: DenyRule) => denyApplies(rule, target, opaque, address);
  yield* policy.denyAnywhere.filter(applies);
  if (target.kind === 'datasource') return;
  for (const bucket of policy.denyByHost.buckets(target.host.text)) yield* bucket.filter(applies);
}

function denyBy(rule: DenyRule, target: Target): DenyDecision {
  return {
    verdict: 'deny',
    reason: denyReason(rule, target),
    rule: rule.source.id,
    policy: rule.policy,
  };
}

function denyReason({ methods, paths, ports }: DenyRule, target: Target): Reason {
  if (target.kind === 'host' || target.kind === 'datasource') {
    if (paths) return 'path_not_allowed';
    if (methods) return 'method_not_allowed';
  }
  if (ports) return 'port_not_allowed';
  return target.kind !== 'datasource' && target.host.ip ? 'ip_not_allowed' : 'host_denied';
}

/**
 * While a policy of the role only reports, what no rule allows passes and says so. Datasources are grants, not openings: without
 * one there is nothing to reach. Neither are private addresses, nor opaque tunnels beyond the Boundary.
 */
function reportMode(
  policy: RolePolicy,
  target: Target,
  refusal: DenyDecision,
  nowMs: number,
): AllowDecision | undefined {
  if (refusal.rule !== null || target.kind === 'datasource') return undefined;
  if (target.host.ip && classifyIp(target.host.ip) !== 'public') return undefined;
  const reporter = policy.reporting.find(({ untilMs }) => isReporting(untilMs, nowMs));
  if (!reporter || tunnelCeiling(policy.boundaries, target.kind === 'tunnel')) return undefined;
  return {
    verdict: 'allow',
    rule: 'report',
    policy: reporter.policy,
    credential: null,
    datasource: null,
    limits: {},
    protocols: target.kind === 'tunnel' ? ['tunnel'] : ['http1', 'http2'],
    intercept: false,
    reported: { reason: refusal.reason, rule: refusal.rule },
  };
}

function isReporting(untilMs: number | null, nowMs: number): boolean {
  return untilMs !== null && nowMs < untilMs;
}

function allow(
  { source, policy, tunnel }: AllowRule,
  target: Target,
  reported: DenyDecision | undefined,
): AllowDecision {
  return {
    verdict: 'allow',
    rule: source.id,
    policy,
    credential: target.kind === 'tunnel' ? null : source.credential,
    datasource: source.datasource,
    limits: source.limits,
    protocols: source.protocols,
    intercept: target.kind === 'tunnel' && !tunnel,
    ...(reported ? { reported: { reason: reported.reason, rule: reported.rule } } : {}),
  };
}

function deny(reason: Reason, rule: string | null = null): DenyDecision {
  return { verdict: 'deny', reason, rule, policy: null };
}
