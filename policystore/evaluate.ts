import {
  type AllowDecision,
  addressRefusal,
  authorize,
  type DatasourceType,
  type Decision,
  type DenyDecision,
  decide,
  grantDatasource,
  inspectAllowed,
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

/** What a request comes with, besides its target. */
export interface Circumstances {
  /** The addresses that the name, or the datasource's endpoint, leads to: every one of them must be one that may be dialled. */
  readonly resolve?: readonly string[] | undefined;
  /** What is sent to a datasource: SQL, or a form. */
  readonly body?: string | undefined;
}

/** What sidecar and proxy together would say to a request, without making it. */
export function evaluate(
  set: PolicySet,
  policy: RolePolicy,
  requested: Target,
  { resolve = [], body }: Circumstances,
  nowMs: number,
): Evaluation {
  const target = programTarget(policy, requested, nowMs);
  const decision = decide(policy, target, nowMs);
  if (decision.verdict === 'deny' || decision.intercept) return { target, decision };
  const refused = wordsRefusal(policy, decision, target, body, nowMs);
  if (refused) return { target, decision: refused };
  for (const text of resolve) {
    const reason = refusalOf(set, policy, target, text, nowMs);
    if (reason) {
      return { target, decision: { verdict: 'deny', reason, rule: null, policy: decision.policy } };
    }
  }
  return { target, decision };
}

/** What a datasource is asked for in a query's own words, the proxy holds against the rule that allows asking. */
function wordsRefusal(
  rolePolicy: RolePolicy,
  decision: AllowDecision,
  target: Target,
  body: string | undefined,
  nowMs: number,
): DenyDecision | undefined {
  if (target.kind !== 'datasource') return undefined;
  const content = {
    body: body ?? null,
    header: (name: string) => HEADERS[target.type]?.[name],
  };
  const inspection = inspectAllowed(rolePolicy, decision, target, content, nowMs);
  const { rule, policy } = decision;
  return inspection.ok ? undefined : { verdict: 'deny', reason: inspection.reason, rule, policy };
}

/** What clients say of a body. */
const FORM = { 'content-type': 'application/x-www-form-urlencoded' };
const HEADERS: Readonly<Partial<Record<DatasourceType, Readonly<Record<string, string>>>>> = {
  prometheus: FORM,
  loki: FORM,
};

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
