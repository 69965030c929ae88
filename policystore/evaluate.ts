import {
  addressRefusal,
  authorize,
  type Decision,
  decide,
  grantDatasource,
  type PolicySet,
  parseIp,
  programTarget,
  type Reason,
  type RolePolicy,
  type Target,
} from '#policies';

/** A verdict on one request as a program would meet it, with the target that the verdict is about. */
export interface Evaluation {
  readonly target: Target;
  readonly decision: Decision;
}

/**
 * What sidecar and proxy together would say to a request, without making it. `resolve` are the addresses that the name, or the
 * datasource's endpoint, is supposed to lead to: every one of them must be one that may be dialled.
 */
export function evaluate(
  set: PolicySet,
  policy: RolePolicy,
  requested: Target,
  resolve: readonly string[],
  nowMs: number,
): Evaluation {
  const target = programTarget(policy, requested, nowMs);
  const decision = decide(policy, target, nowMs);
  if (decision.verdict === 'deny' || decision.intercept) return { target, decision };
  for (const text of resolve) {
    const reason = refusalOf(set, policy, target, text, nowMs);
    if (reason) {
      return { target, decision: { verdict: 'deny', reason, rule: null, policy: decision.policy } };
    }
  }
  return { target, decision };
}

function refusalOf(
  set: PolicySet,
  policy: RolePolicy,
  target: Target,
  text: string,
  nowMs: number,
): Reason | undefined {
  const address = parseIp(text);
  if (!address) return 'dns_failed';
  if (target.kind !== 'datasource')
    return addressRefusal(authorize(policy, target, nowMs), address);
  const grant = grantDatasource(set, authorize(policy, target, nowMs));
  return grant ? addressRefusal(grant, address) : 'alias_unknown';
}
