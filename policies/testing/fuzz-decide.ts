import { decide } from '../decide.ts';
import { explain } from '../explain.ts';
import { addressRefusal } from '../grant.ts';
import { parseIp } from '../ip.ts';
import { authorize } from '../permit.ts';
import { requestTarget } from '../request-line.ts';
import { compileRole, type RolePolicy } from '../role-policy.ts';
import type { Target } from '../target.ts';
import type { Findings } from './findings.ts';
import { DIALLED, NOW, randomProjection, randomRequestOf } from './projections.ts';
import { Random } from './random.ts';
import { referenceAddressRefused, referenceDecide } from './reference-decide.ts';

/** Requests of each random policy. */
const REQUESTS = 50;

/** Random requests to random policies: verdict, rule, reason, credential and what report mode says, against the reference. */
export function fuzzDecide(cases: number, seed: number): Findings {
  const random = new Random(seed);
  const differences: string[] = [];
  const seen = new Map<string, number>();
  let role = randomProjection(random);
  let policy = compileRole(role);
  for (let i = 0; i < cases; i++) {
    if (i % REQUESTS === 0) {
      role = randomProjection(random);
      policy = compileRole(role);
    }
    const text = randomRequestOf(random);
    const canonical = requestTarget(text);
    if (!canonical.ok) throw new Error(`${text}: ${canonical.reason}`);
    const { target } = canonical;
    const [ours, theirs] = [decisionText(policy, target), referenceDecide(role, target, NOW)];
    const outcome = ours.replace(/^allow (?!report)\S+/, 'allow a rule').split(' of ')[0] ?? '';
    seen.set(outcome, (seen.get(outcome) ?? 0) + 1);
    const address = random.pick(DIALLED);
    const dialled = dialledText(policy, target, address);
    const refused =
      dialled && referenceAddressRefused(role, target, address) ? 'refused' : dialled && 'dialled';
    if (!theirs.includes(ours)) differences.push(`${text}: ${ours} is not ${theirs.join(' or ')}`);
    if (dialled !== refused)
      differences.push(`${text} at ${address}: ${dialled} is not ${refused}`);
    if (i % REQUESTS === 0) differences.push(...unexplained(policy, target));
  }
  return { cases, differences, seen };
}

function decisionText(policy: RolePolicy, target: Target): string {
  const decision = decide(policy, target, NOW);
  if (decision.verdict === 'deny') {
    const { reason, rule, policy: of } = decision;
    return `deny ${reason}${rule === null ? '' : ` ${rule}`}${of === null ? '' : ` of ${of}`}`;
  }
  const { rule, policy: of, credential, intercept, reported } = decision;
  const note = reported ? `, reported ${reported.reason} ${reported.rule}` : '';
  return `allow ${rule} of ${of} with ${credential}${intercept ? ' intercept' : ''}${note}`;
}

/** Whether an address may be dialled for what is allowed; undefined where nothing is. */
function dialledText(policy: RolePolicy, target: Target, address: string): string | undefined {
  const decision = decide(policy, target, NOW);
  const bytes = parseIp(address);
  if (decision.verdict === 'deny' || decision.intercept || !bytes) return undefined;
  return addressRefusal(authorize(policy, target, NOW), bytes) ? 'refused' : 'dialled';
}

/** What is explained is what is decided, and the rule that decides is among those that apply. */
function unexplained(policy: RolePolicy, target: Target): string[] {
  const { decision, rules } = explain(policy, target, NOW);
  if (decision.rule === null || decision.policy === null || decision.rule === 'report') return [];
  const found = rules.some(
    ({ applies, effect, rule, policy: of }) =>
      applies && effect === decision.verdict && rule === decision.rule && of === decision.policy,
  );
  return found ? [] : [`${decision.rule} decides, and explain does not say that it applies`];
}
