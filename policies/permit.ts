import { OutriderError } from '#core/errors';
import { type AllowDecision, type Decision, decide } from './decide.ts';
import { sameBytes } from './ip.ts';
import { classifyIp } from './ip-class.ts';
import { REASONS, type Reason } from './reason.ts';
import type { RolePolicy } from './role-policy.ts';
import { type Target, targetText } from './target.ts';

/** An allowed decision about one target. Only `authorize` makes it, and nothing can be dialled without one. */
export class Permit<T extends Target = Target> {
  readonly target: T;
  readonly decision: AllowDecision;
  readonly #policy: RolePolicy;

  private constructor(policy: RolePolicy, target: T, decision: AllowDecision) {
    this.#policy = policy;
    this.target = target;
    this.decision = decision;
  }

  /** @throws {OutriderError} EGRESS_DENIED, with the decision as its cause */
  static authorize<T extends Target>(policy: RolePolicy, target: T, nowMs: number): Permit<T> {
    const decision = decide(policy, target, nowMs);
    if (decision.verdict === 'deny') throw denied(target, decision);
    if (decision.intercept) {
      throw denied(target, {
        verdict: 'deny',
        reason: 'interception_required',
        rule: decision.rule,
        policy: decision.policy,
      });
    }
    return new Permit(policy, target, decision);
  }

  /**
   * Why `address` (16 bytes) must not be dialled for this target; undefined where it may. A name must lead to a public
   * address; an address must be the very one that was decided on. Deny rules and never-lists with ranges hold here too.
   */
  addressRefusal(address: Uint8Array): Reason | undefined {
    const { target } = this;
    // Where a datasource is, its grant knows.
    if (target.kind === 'datasource') return 'resolved_ip_forbidden';
    const { ip } = target.host;
    if (ip ? !sameBytes(ip, address) : classifyIp(address) !== 'public')
      return 'resolved_ip_forbidden';
    const { boundaries, enforcedDenies, reportedDenies } = this.#policy;
    const never = boundaries.some(({ neverCidrs }) => neverCidrs.has(address));
    // Report mode does not reach this far: a range that is written down as denied is never dialled.
    const opaque = target.kind === 'tunnel';
    const ruledOut =
      enforcedDenies.refusesAddress(target, opaque, address) ||
      reportedDenies.refusesAddress(target, opaque, address);
    return never || ruledOut ? 'resolved_ip_forbidden' : undefined;
  }
}

/**
 * A permit for `target`, or an error that says why not. A tunnel whose rule wants to look at requests gets none.
 * @throws {OutriderError} EGRESS_DENIED, whose message names the target and the reason, with the `DenyDecision` as its cause
 */
export function authorize<T extends Target>(
  policy: RolePolicy,
  target: T,
  nowMs: number,
): Permit<T> {
  return Permit.authorize(policy, target, nowMs);
}

function denied(target: Target, decision: Decision & { verdict: 'deny' }): OutriderError {
  const why = REASONS[decision.reason].text;
  return new OutriderError('EGRESS_DENIED', `${targetText(target)} is not allowed: ${why}`, {
    cause: decision,
  });
}
