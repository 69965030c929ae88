import { unnamedReason } from './allow-index.ts';
import { type Decision, decide } from './decide.ts';
import { allowNames, allowRefusal, denyApplies } from './match.ts';
import { type Miss, missesOfAllow, missesOfDeny } from './misses.ts';
import type { Reason } from './reason.ts';
import type { AllowRule, DenyRule, RolePolicy } from './role-policy.ts';
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
  /** Whether it is the rule that the decision names. */
  readonly decides: boolean;
  /** The reason that the data path would give, were it the only rule; null where it applies. */
  readonly reason: Reason | null;
  /** Everything that does not fit, or why a rule that fits does not decide. */
  readonly text: string;
  readonly misses: readonly Miss[];
}

/** The verdict of `decide`, with each rule's own answer. Meant for people: it looks at every rule. */
export function explain(policy: RolePolicy, target: Target, nowMs: number): Explanation {
  const decision = decide(policy, target, nowMs);
  const opaque = target.kind === 'tunnel' && !(decision.verdict === 'allow' && decision.intercept);
  const address = target.kind === 'datasource' ? null : target.host.ip;
  const denials = policy.deny.map((rule) => {
    const applies = denyApplies(rule, target, opaque, address);
    const misses = applies ? [] : missesOfDeny(rule, target, opaque, address);
    return entry('deny', rule, applies ? null : 'host_denied', misses, decision);
  });
  const allows = policy.allow.map((rule) => {
    const reason = allowNames(rule, target)
      ? (allowRefusal(rule, target, nowMs) ?? null)
      : unnamedReason(target);
    const misses = reason === null ? [] : missesOfAllow(rule, target, nowMs);
    return entry('allow', rule, reason, misses, decision);
  });
  return { target: targetText(target), decision, rules: [...denials, ...allows] };
}

function entry(
  effect: 'allow' | 'deny',
  { policy, source }: AllowRule | DenyRule,
  reason: Reason | null,
  misses: readonly Miss[],
  decision: Decision,
): RuleExplanation {
  const applies = reason === null;
  const decides =
    applies &&
    decision.verdict === effect &&
    decision.rule === source.id &&
    decision.policy === policy;
  const why = applies ? fitting(decides, effect, decision) : textOf(misses);
  return { policy, rule: source.id, effect, applies, decides, reason, text: why, misses };
}

/** What became of a rule that fits. */
function fitting(decides: boolean, effect: 'allow' | 'deny', decision: Decision): string {
  if (decides) return 'everything fits, and it decides';
  const by = decision.rule ?? 'what no rule opens';
  if (decision.verdict === 'deny') return `everything fits, but ${by} denies`;
  if (effect === 'deny') return 'everything fits, but its policy only reports';
  return `everything fits, but ${by} goes before it`;
}

function textOf(misses: readonly Miss[]): string {
  const elsewhere = misses.find(({ dimension }) => dimension === 'datasource');
  if (elsewhere) return elsewhere.text;
  return misses.map(({ text }) => text).join('; ');
}
