import {
  type Decision,
  decide,
  type Phase,
  type PolicySet,
  programTarget,
  type Reason,
  requestTarget,
  rolePolicy,
} from '#policies';

/** One request as an audit tells of it. */
export interface Replayed {
  readonly role: string;
  readonly tenant: string;
  /** As `requestTarget` reads it; undefined where the audit does not hold it whole. */
  readonly request: string | undefined;
  readonly verdict: string;
  readonly reason: string;
  readonly rule: string;
  readonly credential: string;
}

/** What becomes of it under the policy. */
export type Replay =
  | { readonly kind: 'same' }
  /** Not for a policy to say: it ended by a limit or a fault, or was refused for what no rule is about. */
  | { readonly kind: 'undecided' }
  /** The record does not say enough: no role, or a target without a meaning, or one that was cut. */
  | { readonly kind: 'unknown' }
  | { readonly kind: 'allowed' | 'denied' | 'credential'; readonly text: string };

/** Refusals that `decide` alone is answerable for; any other would come again whatever it says. */
const DECIDED: ReadonlySet<string> = new Set<Reason>([
  'host_denied',
  'host_not_allowed',
  'port_not_allowed',
  'port_forbidden_class',
  'ip_not_allowed',
  'ip_forbidden_class',
  'connect_not_allowed',
  'scheme_not_allowed',
  'interception_required',
  'method_not_allowed',
  'path_not_allowed',
  'query_not_allowed',
  'protocol_not_allowed',
  'alias_unknown',
  'no_policy',
  'policy_expired',
]);

/** Requests differ less than one thinks, so that most are decided once. */
const REMEMBERED_MAX = 200_000;

/**
 * Decides requests of an audit again, by `set` and as of `nowMs`, and compares. What a name led to is not looked up again, and
 * queries are known only where the audit has them.
 */
export class Simulation {
  readonly #set: PolicySet;
  readonly #phase: Phase;
  readonly #nowMs: number;
  readonly #decisions = new Map<string, Decision | undefined>();

  constructor(set: PolicySet, phase: Phase, nowMs: number) {
    this.#set = set;
    this.#phase = phase;
    this.#nowMs = nowMs;
  }

  replay(replayed: Replayed): Replay {
    const was = outcomeOf(replayed);
    if (was === undefined) return { kind: 'undecided' };
    const decision = this.#decide(replayed);
    if (!decision) return { kind: 'unknown' };
    if (decision.verdict === 'deny') {
      const { reason, rule } = decision;
      if (was === 'deny') return { kind: 'same' };
      return { kind: 'denied', text: `${reason}${rule === null ? '' : ` by ${rule}`}` };
    }
    const { policy, rule, credential, intercept } = decision;
    if (intercept) return { kind: 'unknown' }; // that depends on what would be asked inside
    if (was === 'deny') return { kind: 'allowed', text: `${policy}/${rule}` };
    // A datasource's own is a part of where it is, and the proxy alone records it.
    const before = replayed.credential.startsWith('datasource:') ? '' : replayed.credential;
    if ((credential ?? '') === before) return { kind: 'same' };
    return { kind: 'credential', text: `${before || 'none'} → ${credential ?? 'none'}` };
  }

  #decide({ role, tenant, request }: Replayed): Decision | undefined {
    if (role === '' || request === undefined) return undefined;
    const key = `${role}\n${tenant}\n${request}`;
    if (this.#decisions.has(key)) return this.#decisions.get(key);
    if (this.#decisions.size >= REMEMBERED_MAX) this.#decisions.clear();
    const canonical = requestTarget(request);
    const policy = rolePolicy(this.#set, role, tenant, this.#phase);
    const decision = canonical.ok
      ? decide(policy, programTarget(policy, canonical.target, this.#nowMs), this.#nowMs)
      : undefined;
    this.#decisions.set(key, decision);
    return decision;
  }
}

/** What the policy of that time had said; undefined where it was something else that spoke. */
function outcomeOf({ verdict, reason, rule }: Replayed): 'allow' | 'deny' | undefined {
  if (verdict === 'allow') return 'allow';
  // A limit is a rule's, and upstreams fail behind an allow.
  if (verdict !== 'deny') return rule === '' ? undefined : 'allow';
  return DECIDED.has(reason) ? 'deny' : undefined;
}
