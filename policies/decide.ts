import { unnamedReason } from './allow-index.ts';
import type { Counts } from './deny-index.ts';
import type { Protocol } from './document.ts';
import { FORBIDDEN_NAMES, isLocalName } from './host-pattern.ts';
import { classifyIp } from './ip-class.ts';
import { hasExpired } from './match.ts';
import { ANY_METHOD, hasMethod } from './method-set.ts';
import type { DatasourceRef, Guard, Limits } from './projection.ts';
import type { Reason } from './reason.ts';
import type { AllowRule, Boundary, DenyRule, RolePolicy } from './role-policy.ts';
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
  /** What the rule asks of the query of a datasource: for `inspectDatasource`. */
  readonly guard: Guard | null;
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

  const rule = policy.allowIndex.find(target, nowMs);
  // A tunnel that no rule wants to look into is opaque, also where only report mode would let it through.
  const opaque = target.kind === 'tunnel' && (rule?.tunnel ?? true);
  const denied =
    policy.enforcedDenies.find(target, opaque, nowMs, always) ??
    policy.reportedDenies.find(target, opaque, nowMs, isEnforcedNow);
  const refusal =
    (denied && denyBy(denied, target)) ??
    (rule
      ? tunnelCeiling(policy.boundaries, opaque)
      : deny(policy.allowIndex.refusal(target, nowMs)));
  if (refusal) return reportMode(policy, target, refusal, nowMs) ?? refusal;
  if (!rule) return deny(unnamedReason(target));
  const reported = policy.reportedDenies.find(target, opaque, nowMs, isReportedNow);
  return allow(rule, target, reported && denyBy(reported, target));
}

const always: Counts = () => true;
const isEnforcedNow: Counts = (rule, _target, nowMs) => !isReporting(rule.reportUntilMs, nowMs);
const isReportedNow: Counts = (rule, _target, nowMs) => isReporting(rule.reportUntilMs, nowMs);

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
  if (target.kind !== 'tunnel' && !hasMethod(boundary.mayMethods, target.method)) {
    return 'method_not_allowed';
  }
  if (target.kind === 'datasource') return undefined;
  const { ip, text } = target.host;
  if (boundary.neverPorts.has(target.port)) return 'port_forbidden_class';
  if (ip) {
    if (boundary.neverCidrs.has(ip)) return 'ip_forbidden_class';
    // A ceiling of names holds no address, but for those that the Boundary consents to.
    const within =
      classifyIp(ip) === 'private' ? boundary.mayPrivate.has(ip) : boundary.mayHosts === null;
    return within ? undefined : 'ip_not_allowed';
  }
  if (boundary.neverHosts.has(text)) return 'host_denied';
  return boundary.mayHosts?.has(text) === false ? 'host_not_allowed' : undefined;
}

function tunnelCeiling(boundaries: readonly Boundary[], opaque: boolean): DenyDecision | undefined {
  const boundary = opaque ? boundaries.find(({ mayTunnel }) => !mayTunnel) : undefined;
  return boundary && deny('connect_not_allowed', `boundary:${boundary.name}`);
}

function denyBy(rule: DenyRule, target: Target): DenyDecision {
  return {
    verdict: 'deny',
    reason: denyReason(rule, target),
    rule: rule.source.id,
    policy: rule.policy,
  };
}

function denyReason({ methodSet, paths, ports }: DenyRule, target: Target): Reason {
  if (target.kind === 'host' || target.kind === 'datasource') {
    if (paths) return 'path_not_allowed';
    if (methodSet !== ANY_METHOD) return 'method_not_allowed';
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
    guard: null,
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
    guard: source.guard,
    protocols: source.protocols,
    intercept: target.kind === 'tunnel' && !tunnel,
    ...(reported ? { reported: { reason: reported.reason, rule: reported.rule } } : {}),
  };
}

function deny(reason: Reason, rule: string | null = null): DenyDecision {
  return { verdict: 'deny', reason, rule, policy: null };
}
