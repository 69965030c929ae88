import { OutriderError } from '#core/errors';
import { OpenList } from '#core/open-list';
import { TIMER_MAX_MS } from '#core/timer-max';
import { type DenyDecision, decide, type Limits, REASONS, type Target } from '#policies';
import type { Authority, Caller } from './authority.ts';
import { refused } from './refusal.ts';
import { concerns, type Revocations, type RevokedSubject, tokenRevoked } from './revocations.ts';

/** The two clocks of an end differ by up to this from one request of an exec to the next. */
const CLOCK_GRAIN_MS = 1;

/** One allowed request or tunnel, from its decision to its end. It can be ended from outside at any time in between. */
export class OpenExchange {
  readonly caller: Caller;
  readonly target: Target;
  /** When its exec must be over, by `performance.now`. */
  readonly endsAt: number;
  /** When the other side must have gone on, by the same clock. */
  #expectedBy = Number.POSITIVE_INFINITY;
  #late: (() => void) | undefined;
  readonly #list: ExchangeList;
  readonly #timer: NodeJS.Timeout | undefined;
  #cutBy: OutriderError | undefined;
  #onCut: ((why: OutriderError) => void) | undefined;

  constructor(caller: Caller, target: Target, { durationMs }: Limits, list: ExchangeList) {
    this.caller = caller;
    this.target = target;
    this.endsAt = performance.now() + caller.endsAtMs - Date.now();
    this.#list = list;
    if (durationMs !== undefined)
      this.#timer = setTimeout(() => this.cut(tooLong()), bounded(durationMs)).unref();
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
    if (this.#timer) clearTimeout(this.#timer);
    this.#list.closed(this);
  }

  /** Calls `late` once, unless the next `expect` or `expectNothing` comes before so long has passed. */
  expect(ms: number, late: () => void): void {
    this.#late = late;
    this.#expectedBy = performance.now() + ms;
    this.#list.wakeBy(this.#expectedBy);
  }

  expectNothing(): void {
    this.#expectedBy = Number.POSITIVE_INFINITY;
  }

  /** Does what is due by now; returns when something will be next. */
  due(now: number): number {
    if (this.endsAt <= now) this.cut(ended());
    if (this.#expectedBy <= now) {
      this.#expectedBy = Number.POSITIVE_INFINITY;
      this.#late?.();
    }
    const end = this.#cutBy ? Number.POSITIVE_INFINITY : this.endsAt;
    return Math.min(end, this.#expectedBy);
  }
}

/** What an exchange says to the list that it is in. */
interface ExchangeList {
  readonly closed: (one: OpenExchange) => void;
  /** Something is to be done by then. */
  readonly wakeBy: (at: number) => void;
}

function tooLong(): OutriderError {
  return refused('UPSTREAM_TIMEOUT', 'the rule allows no longer exchange', 'upstream_timeout');
}

function ended(): OutriderError {
  return refused(
    'UNAUTHENTICATED',
    'the execution has lasted longer than its role allows',
    'jwt_exp',
  );
}

function bounded(ms: number): number {
  return Math.min(Math.max(0, ms), TIMER_MAX_MS);
}

/** The requests and tunnels that are under way: cut when the policy no longer allows them or their exec must be over. */
export class OpenExchanges {
  readonly #open = new OpenList<OpenExchange>();
  readonly #revocations: Revocations;
  /** One timer for all: most ends are those of the same few execs, and a timer for each request costs as much as its decision. */
  #timer: NodeJS.Timeout | undefined;
  #wakesAt = Number.POSITIVE_INFINITY;
  readonly #list: ExchangeList = {
    closed: (one) => this.#open.delete(one),
    wakeBy: (at) => {
      if (at < this.#wakesAt - CLOCK_GRAIN_MS) this.#wakeAt(at);
    },
  };

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
    const one = new OpenExchange(caller, target, limits, this.#list);
    this.#open.add(one);
    this.#list.wakeBy(one.endsAt);
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

  #wakeAt(at: number): void {
    clearTimeout(this.#timer);
    this.#wakesAt = at;
    this.#timer = setTimeout(() => this.#wake(), bounded(at - performance.now())).unref();
  }

  #wake(): void {
    this.#wakesAt = Number.POSITIVE_INFINITY;
    const now = performance.now();
    let next = Number.POSITIVE_INFINITY;
    for (const one of this.#open) next = Math.min(next, one.due(now));
    if (next < this.#wakesAt) this.#wakeAt(next);
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
