import { type Decision, decide, unnamedReason } from './decide.ts';
import { allowNames, allowRefusal, denyApplies } from './match.ts';
import { REASONS, type Reason } from './reason.ts';
import type { RolePolicy } from './role-policy.ts';
import { type Target, targetText } from './target.ts';

/** A decision, and what every rule of the role had to say about it. */
export interface Explanation {
  readonly target: string;
  readonly decision: Decision;
  readonly rules: readonly RuleExplanation[];
}

export interface RuleExplanation {
  readonly policy: string;
  readonly rule: string;
  readonly effect: 'allow' | 'deny';
  readonly applies: boolean;
  /** Why it does not apply; null where it does. */
  readonly reason: Reason | null;
  readonly text: string;
}

/** The verdict of `decide`, with each rule's own answer. Meant for people: it looks at every rule. */
export function explain(policy: RolePolicy, target: Target, nowMs: number): Explanation {
  const decision = decide(policy, target, nowMs);
  const opaque = target.kind === 'tunnel' && !(decision.verdict === 'allow' && decision.intercept);
  const address = target.kind === 'datasource' ? null : target.host.ip;
  const denials = policy.deny.map((rule) => {
    const applies = denyApplies(rule, target, opaque, address);
    return entry(
      rule.policy,
      rule.source.id,
      'deny',
      applies ? null : 'host_denied',
      applies ? 'it names this target' : 'it does not name this target',
    );
  });
  const allows = policy.allow.map((rule) => {
    const { id } = rule.source;
    if (!allowNames(rule, target)) {
      return entry(rule.policy, id, 'allow', unnamedReason(target), 'it does not name this target');
    }
    const reason = allowRefusal(rule, target, nowMs) ?? null;
    const text = reason ? REASONS[reason].text : 'everything fits';
    return entry(rule.policy, id, 'allow', reason, text);
  });
  return { target: targetText(target), decision, rules: [...denials, ...allows] };
}

function entry(
  policy: string,
  rule: string,
  effect: 'allow' | 'deny',
  reason: Reason | null,
  text: string,
): RuleExplanation {
  return { policy, rule, effect, applies: reason === null, reason, text };
}
