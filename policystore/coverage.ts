import {
  type AllowRule,
  type DenyRule,
  decide,
  missesOfAllow,
  type PolicyProblem,
  type PolicySet,
  type RolePolicy,
  rolePolicy,
  type Target,
} from '#policies';
import type { CaseResult } from './run-cases.ts';

/** How the cases of all PolicyTests cover one rule. */
export interface RuleCoverage {
  readonly policy: string;
  readonly rule: string;
  readonly effect: 'allow' | 'deny';
  /** An allow rule's: some case is allowed by it. A deny rule's: some case is refused by it. */
  readonly hit: boolean;
  /**
   * An allow rule's: some case is refused that it misses in one thing alone, or that another rule, an address or the words of its query refuse. A deny
   * rule needs none, so that it is true.
   */
  readonly nearMiss: boolean;
}

/** How the cases cover each rule of every EgressPolicy, in the order of the documents. Cases that fail cover nothing. */
export function coverRules(set: PolicySet, results: readonly CaseResult[]): RuleCoverage[] {
  const [allowing, refusing] = [new Set<string>(), new Set<string>()];
  const refused: CaseResult[] = [];
  for (const result of results) {
    const { outcome, failure } = result;
    if (failure !== undefined) continue;
    if (outcome.verdict === 'deny') refused.push(result);
    if (outcome.policy !== null && outcome.rule !== null)
      (outcome.verdict === 'allow' ? allowing : refusing).add(keyOf(outcome.policy, outcome.rule));
  }
  const near = nearMisses(set, refused);
  return set.documents.egressPolicies.flatMap(({ metadata: { name }, spec }) => [
    ...spec.allow.map(({ id }) => ({
      policy: name,
      rule: id,
      effect: 'allow' as const,
      hit: allowing.has(keyOf(name, id)),
      nearMiss: near.has(keyOf(name, id)),
    })),
    ...(spec.deny ?? []).map(({ id }) => ({
      policy: name,
      rule: id,
      effect: 'deny' as const,
      hit: refusing.has(keyOf(name, id)),
      nearMiss: true,
    })),
  ]);
}

export function isCovered({ hit, nearMiss }: RuleCoverage): boolean {
  return hit && nearMiss;
}

/** The PolicyTests whose `coverage` asks for more than there is: of the rules in force for whom the test speaks. */
export function coverageProblems(set: PolicySet, results: readonly CaseResult[]): PolicyProblem[] {
  const demanding = set.documents.tests.flatMap((test, index) => {
    const percent = test.spec.coverage?.rules;
    return percent === undefined ? [] : [{ test, index, percent }];
  });
  if (demanding.length === 0) return [];
  const covered = new Map(
    coverRules(set, results).map((one) => [keyOf(one.policy, one.rule), isCovered(one)]),
  );
  return demanding.flatMap(({ test, index, percent }) => {
    const { role, tenant = '', phase } = test.spec.as;
    const { allow, deny } = rolePolicy(set, role, tenant, phase);
    const rules = [...allow, ...deny].map(nameOf);
    const missing = rules.filter(({ policy, rule }) => covered.get(keyOf(policy, rule)) !== true);
    if ((rules.length - missing.length) * 100 >= percent * rules.length) return [];
    const names = missing.map(({ policy, rule }) => `${policy}/${rule}`).toSorted();
    const message = `${rules.length - missing.length} of ${rules.length} rules are covered, ${percent} % are wanted: ${names.join(', ')} need a case that each allows and one that it nearly does (see \`outrider policy test\`)`;
    const path = ['spec', 'coverage', 'rules'];
    return [{ kind: 'PolicyTest', name: test.metadata.name, index, path, message }];
  });
}

/** The allow rules that a refused case comes near to. */
function nearMisses(set: PolicySet, refused: readonly CaseResult[]): Set<string> {
  const near = new Set<string>();
  for (const { test, target } of refused) {
    if (!target) continue;
    const { role, tenant = '', phase } = test.spec.as;
    const policy = rolePolicy(set, role, tenant, phase);
    const targets = refusedTargets(policy, target);
    for (const rule of policy.allow) {
      const key = keyOf(rule.policy, rule.source.id);
      if (!near.has(key) && targets.some((one) => isNear(rule, one))) near.add(key);
    }
  }
  return near;
}

/** A target that was refused, and the tunnel that it would have begun with, where that was refused, too. */
function refusedTargets(policy: RolePolicy, target: Target): Target[] {
  if (target.kind !== 'host' || target.scheme !== 'https') return [target];
  const tunnel: Target = { kind: 'tunnel', host: target.host, port: target.port };
  const { verdict } = decide(policy, tunnel, Number.NEGATIVE_INFINITY);
  return verdict === 'deny' ? [target, tunnel] : [target];
}

/** Whether a rule misses the target in one thing alone, or in nothing: then something else refused it. */
function isNear(rule: AllowRule, target: Target): boolean {
  const [miss, ...more] = missesOfAllow(rule, target, Number.NEGATIVE_INFINITY);
  if (more.length > 0) return false;
  if (miss?.dimension === 'host')
    return target.kind !== 'datasource' && isKin(rule, target.host.text);
  if (miss?.dimension === 'datasource')
    return target.kind === 'datasource' && target.type === rule.source.datasource?.type;
  return true;
}

/** Whether a host is under the same two last labels as one that the rule names: any other would be no near miss. */
function isKin(rule: AllowRule, host: string): boolean {
  const family = familyOf(host);
  return rule.source.hosts.some((pattern) => familyOf(pattern) === family);
}

function familyOf(host: string): string {
  return host.split('.').slice(-2).join('.');
}

function nameOf({ policy, source }: AllowRule | DenyRule): { policy: string; rule: string } {
  return { policy, rule: source.id };
}

function keyOf(policy: string, rule: string): string {
  return `${policy} ${rule}`;
}
