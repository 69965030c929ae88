import { canonicalJson } from '../canonical-json.ts';
import type { PolicyChange } from '../change.ts';
import { type AllowDecision, decide } from '../decide.ts';
import { lowered, raised } from '../diff/limits.ts';
import { diffPolicySets } from '../diff.ts';
import type { AllowRuleSpec, Boundary, EgressPolicy } from '../document.ts';
import { binding, boundary, datasource, documents } from '../fixture.ts';
import { parseIp } from '../ip.ts';
import { allowRefusal, denyApplies } from '../match.ts';
import { authorize } from '../permit.ts';
import { compilePolicySet, type PolicySet, rolePolicy } from '../policy-set.ts';
import type { RolePolicy } from '../role-policy.ts';
import type { Target } from '../target.ts';
import type { Findings } from './findings.ts';
import { Random } from './random.ts';
import {
  REFS,
  REQUESTS,
  RESOLVED,
  randomAllow,
  randomDeny,
  randomLimits,
  randomPolicy,
  targetOf,
} from './small-world.ts';

/**
 * `diffPolicySets` against deciding every request of a small world in both sets. Every example must show its change, and every
 * request that is decided otherwise must lie in a rule that is named for that kind of change.
 */
export function fuzzDiffs(cases: number, seed: number, diff = diffPolicySets): Findings {
  const random = new Random(seed);
  const differences: string[] = [];
  const seen = new Map<string, number>();
  for (let i = 0; i < cases; i++) {
    const [before, after] = randomSets(random);
    const changes = diff(before, after);
    const wrong = [
      ...changes.flatMap((change) => unreal(before, after, change)),
      ...untold(before, after, changes),
    ];
    if (wrong.length > 0) differences.push(JSON.stringify({ wrong, ...textOf(before, after) }));
    for (const kind of changes.length === 0 ? ['same'] : changes.map(kindOf))
      seen.set(kind, (seen.get(kind) ?? 0) + 1);
  }
  return { cases, differences, seen };
}

function randomSets(random: Random): [PolicySet, PolicySet] {
  const policies = random.times(1 + random.below(2), (i) => randomPolicy(random, `p${i}`, 'key'));
  const changed = policies.map((policy) => (random.once(2) ? mutated(random, policy) : policy));
  return [setOf(random, policies), setOf(random, changed)];
}

/** A rule more, a rule less, a rule that is another. */
function mutated(random: Random, policy: EgressPolicy): EgressPolicy {
  const { allow, deny = [] } = policy.spec;
  const without = <T>(list: readonly T[]): T[] => list.filter(() => !random.once(3));
  const spec = {
    ...policy.spec,
    allow: random.once(2)
      ? [...without(allow), randomAllow(random, 'new', 'key')]
      : allow.map((rule) => (random.once(2) ? otherRule(random, rule) : rule)),
    deny: random.once(2) ? without(deny) : [...deny, randomDeny(random, 'more')],
  };
  return { ...policy, spec };
}

/** Another rule of the same id, or the same with other limits or without its credential. */
function otherRule(random: Random, rule: AllowRuleSpec): AllowRuleSpec {
  const { limits: _limits, credential: _credential, ...rest } = rule;
  if (random.once(2)) return randomAllow(random, rule.id, 'key');
  return random.once(2) ? rest : { ...rule, limits: randomLimits(random) };
}

/** With consent to every private address, bindings for every credential, and now and then a range that no name may lead to. */
function setOf(random: Random, policies: readonly EgressPolicy[]): PolicySet {
  const consent: Boundary = boundary('org', {
    mayPrivate: ['0.0.0.0/0'],
    ...(random.once(4) ? { neverCidrs: ['192.0.2.0/24'] } : {}),
  });
  const usesKey = policies.some(({ spec }) => spec.allow.some(({ credential }) => credential));
  const parts = {
    egressPolicies: policies,
    credentialBindings: usesKey ? [binding('key', hostsWithKey(policies))] : [],
    datasources: REFS.map((ref) => {
      const [type, name = ''] = ref.split('/');
      return datasource(type === 'http' ? 'http' : 'prometheus', name);
    }),
  };
  try {
    return compilePolicySet(documents({ ...parts, boundaries: [consent] }), 'd');
  } catch {
    // The range is one that a rule opens.
    const plain = boundary('org', { mayPrivate: ['0.0.0.0/0'] });
    return compilePolicySet(documents({ ...parts, boundaries: [plain] }), 'd');
  }
}

function hostsWithKey(policies: readonly EgressPolicy[]): string[] {
  const rules = policies.flatMap(({ spec }) => spec.allow);
  return [...new Set(rules.flatMap(({ credential, hosts = [] }) => (credential ? hosts : [])))];
}

function policyOf(set: PolicySet): RolePolicy {
  return rolePolicy(set, 'analyst', '');
}

/** What becomes of a request; null: it is refused, or a tunnel that will be looked into. */
function outcome(policy: RolePolicy, target: Target, address?: string): AllowDecision | null {
  const decision = decide(policy, target, 0);
  if (decision.verdict === 'deny' || decision.intercept) return null;
  const ip = address === undefined ? undefined : parseIp(address);
  return ip && authorize(policy, target, 0).addressRefusal(ip) ? null : decision;
}

/** The kinds of changes that two outcomes show. */
function kindsBetween(before: AllowDecision | null, after: AllowDecision | null): string[] {
  if (!before || !after) return before ? ['denied -'] : after ? ['allowed +'] : [];
  const isMore = after.credential !== null;
  return [
    ...(before.credential === after.credential ? [] : [`credential ${isMore ? '+' : '-'}`]),
    ...(raised(before.limits, after.limits).length > 0 ? ['limits +'] : []),
    ...(lowered(before.limits, after.limits).length > 0 ? ['limits -'] : []),
  ];
}

function kindOf({ change, widening }: PolicyChange): string {
  return `${change} ${widening ? '+' : '-'}`;
}

/** An example that does not show its change. */
function unreal(before: PolicySet, after: PolicySet, change: PolicyChange): string[] {
  if (change.change === 'boundary' || change.change === 'binding') return [];
  const target = targetOf(change.example);
  const [old, fresh] = [before, after].map((set) => outcome(policyOf(set), target, change.resolve));
  const shows = kindsBetween(old ?? null, fresh ?? null).includes(kindOf(change));
  return shows ? [] : [`unreal: ${canonicalJson(change)}`];
}

/** Requests that are decided otherwise and that no change tells of. */
function untold(before: PolicySet, after: PolicySet, changes: readonly PolicyChange[]): string[] {
  const [old, fresh] = [policyOf(before), policyOf(after)];
  const wrong: string[] = [];
  const hold = (text: string, target: Target, address?: string) => {
    for (const kind of kindsBetween(
      outcome(old, target, address),
      outcome(fresh, target, address),
    )) {
      const isTold = changes.some(
        (change) => kindOf(change) === kind && isNamed(old, fresh, change, target, address),
      );
      if (!isTold) wrong.push(`untold: ${kind} ${text} ${address ?? ''}`);
    }
  };
  for (const { text, target } of REQUESTS) {
    hold(text, target);
    const atRest = target.kind === 'datasource' || target.host.ip !== null;
    const isAllowed = !atRest && outcome(old, target) !== null && outcome(fresh, target) !== null;
    if (isAllowed) for (const address of RESOLVED) hold(text, target, address);
  }
  return wrong;
}

/** Whether the rule of a change names the request. */
function isNamed(
  before: RolePolicy,
  after: RolePolicy,
  { rule, policy }: PolicyChange,
  target: Target,
  address: string | undefined,
): boolean {
  if (rule?.startsWith('boundary:')) return address !== undefined;
  const own = target.kind === 'datasource' ? null : target.host.ip;
  const ip = address === undefined ? own : (parseIp(address) ?? null);
  return [before, after].some(
    (side) =>
      side.allow.some(
        (one) => one.policy === policy && one.source.id === rule && !allowRefusal(one, target, 0),
      ) ||
      side.deny.some(
        (one) =>
          one.policy === policy && one.source.id === rule && denyApplies(one, target, true, ip),
      ),
  );
}

function textOf(before: PolicySet, after: PolicySet) {
  const policies = (set: PolicySet) => set.documents.egressPolicies.map(({ spec }) => spec);
  return { before: policies(before), after: policies(after) };
}
