import { OutriderError } from '#core/errors';
import { type DenyDecision, decide, type Limits, REASONS, type Target } from '#policies';
import type { Authority, Caller } from './authority.ts';
import { refused } from './refusal.ts';
import { concerns, type Revocations, type RevokedSubject, tokenRevoked } from './revocations.ts';

/** Beyond this node:timers fires at once. */
const TIMER_MAX_MS = 2 ** 31 - 1;

/** One allowed request or tunnel, from its decision to its end. It can be ended from outside at any time in between. */
export class OpenExchange {
  readonly caller: Caller;
  readonly target: Target;
  readonly #over: () => void;
  readonly #timers: readonly NodeJS.Timeout[];
  #cutBy: OutriderError | undefined;
  #onCut: ((why: OutriderError) => void) | undefined;

  constructor(caller: Caller, target: Target, { durationMs }: Limits, over: () => void) {
    this.caller = caller;
    this.target = target;
    this.#over = over;
    const ended = this.#cutIn(caller.endsAtMs - Date.now(), () =>
      refused('UNAUTHENTICATED', 'the execution has lasted longer than its role allows', 'jwt_exp'),
    );
    const late = () =>
      refused('UPSTREAM_TIMEOUT', 'the rule allows no longer exchange', 'upstream_timeout');
    this.#timers = durationMs === undefined ? [ended] : [ended, this.#cutIn(durationMs, late)];
  }

  /** Why it was cut; undefined while it may go on. */
  get cutBy(): OutriderError | undefined {
    return this.#cutBy;
  }

  /** How to end what is under way now; called at once where it was cut already. */
  onCut(end: (why: OutriderError) => void): void {
    this.#onCut = end;
    if (this.#cutBy) end(this.#cutBy);
  }

  /** The first reason counts. */
  cut(why: OutriderError): void {
    if (this.#cutBy) return;
    this.#cutBy = why;
    this.#onCut?.(why);
  }

  /** To be called when it has ended, however it did. */
  close(): void {
    for (const timer of this.#timers) clearTimeout(timer);
    this.#over();
  }

  #cutIn(ms: number, why: () => OutriderError): NodeJS.Timeout {
    const bounded = Math.min(Math.max(0, ms), TIMER_MAX_MS);
    return setTimeout(() => this.cut(why()), bounded).unref();
  }
}

/** The requests and tunnels that are under way: cut when the policy no longer allows them or their exec must be over. */
export class OpenExchanges {
  readonly #open = new Set<OpenExchange>();
  readonly #revocations: Revocations;

  /** What `revocations` learns from now on is cut. */
  constructor(revocations: Revocations) {
    this.#revocations = revocations;
    revocations.onRevoked = (subject) => this.#revoke(subject);
  }

  get size(): number {
    return this.#open.size;
  }

  /** Keeps an exchange until its `close`. */
  begin(caller: Caller, target: Target, limits: Limits): OpenExchange {
    const one: OpenExchange = new OpenExchange(caller, target, limits, () =>
      this.#open.delete(one),
    );
    this.#open.add(one);
    // Its token was good when it was looked at, which may be a moment ago.
    if (this.#revocations.has(caller.identity.execution)) one.cut(tokenRevoked());
    return one;
  }

  /** To be called when the policy has changed: only tightening reaches what is under way. */
  recheck(authority: Authority): void {
    for (const one of this.#open) {
      const why = refusalNow(authority, one);
      if (why) one.cut(refused('EGRESS_DENIED', REASONS[why.reason].text, why.reason, why));
    }
  }

  /** Ends the tunnels and WebSockets, which would go on for ever; a request has its server's time to end. */
  closeTunnels(): void {
    for (const one of this.#open)
      if (one.target.kind === 'tunnel' || one.target.protocol === 'websocket')
        one.cut(new OutriderError('DRAINING', 'the proxy is stopping'));
  }

  /** A runner has said that what an exec may do is over. */
  #revoke(subject: RevokedSubject): void {
    for (const one of this.#open)
      if (concerns(subject, one.caller.identity.execution)) one.cut(tokenRevoked());
  }
}

function refusalNow(
  authority: Authority,
  { caller, target }: OpenExchange,
): Pick<DenyDecision, 'reason' | 'rule'> | undefined {
  const policy = authority.policyNow(caller.identity);
  if (!policy) return { reason: 'role_denied', rule: null };
  const decision = decide(policy, target, Date.now());
  if (decision.verdict === 'deny') return decision;
  return decision.intercept ? { reason: 'interception_required', rule: decision.rule } : undefined;
}
