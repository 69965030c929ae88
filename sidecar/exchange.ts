import { FAILURES } from '#core/errors';
import { newId } from '#core/ids';
import {
  isReason,
  type NamedQuota,
  REASONS,
  type Reason,
  type Target,
  targetText,
} from '#policies';
import type { Binding, Grant } from './binding.ts';
import type { Refused } from './refusal.ts';
import type { Ingress } from './request-target.ts';

export type Verdict = 'allow' | 'deny' | 'limit' | 'error';

/** How one request or tunnel ended. */
export interface Outcome {
  readonly verdict: Verdict;
  readonly status?: number | undefined;
  readonly reason?: string | undefined;
  readonly rule?: string | null | undefined;
  readonly code?: string | undefined;
  readonly detail?: string | undefined;
}

/** Records how an exchange ended. */
export type RecordExchange = (exchange: Exchange, outcome: Outcome | 'intercepted') => void;

/**
 * One request or tunnel, from its head to its one audit record. Whoever ends it first says how it ended; everything after is
 * ignored, so that a cut connection cannot report itself a second time.
 */
export class Exchange {
  /** Joins the sidecar's and the proxy's records of the same request. */
  readonly requestId = newId('req');
  readonly ingress: Ingress;
  readonly method: string;
  readonly binding: Binding | undefined;
  readonly startedAt = performance.now();
  target: Target | undefined;
  /** What it asks of the mesh itself, which is no target of any rule. */
  own: string | undefined;
  grant: Grant | undefined;
  /** What the rule's rate leaves. */
  quota: NamedQuota | undefined;
  /** Towards the proxy and towards the program. */
  bytesOut = 0;
  bytesIn = 0;
  /** Whether anything of it has been sent to the proxy, which then has a record of it too. */
  forwarded = false;
  /** Whether all of the request has been read. */
  requestComplete: () => boolean = () => true;
  #onCut: ((refused: Refused) => void) | undefined;
  #outcome: Outcome | 'intercepted' | undefined;
  readonly #ends: (() => void)[] = [];
  readonly #record: RecordExchange;

  constructor(
    ingress: Ingress,
    method: string,
    binding: Binding | undefined,
    record: RecordExchange,
  ) {
    this.ingress = ingress;
    this.method = method;
    this.binding = binding;
    this.#record = record;
  }

  get ended(): boolean {
    return this.#outcome !== undefined;
  }

  get targetText(): string | undefined {
    return this.target ? targetText(this.target) : this.own;
  }

  /** What to do when the exchange must end now: say so to the program where that is possible, and let go of both sides. */
  onCut(cut: (refused: Refused) => void): void {
    this.#onCut = cut;
  }

  /** Something to undo when it ends, however it ends. */
  onEnd(undo: () => void): void {
    if (this.ended) undo();
    else this.#ends.push(undo);
  }

  end(outcome: Outcome): void {
    this.#end(outcome);
  }

  /** The requests inside have records of their own, and this has none. */
  becomeIntercepted(): void {
    this.#end('intercepted');
  }

  /** Ends it with a refusal. */
  refuse(refused: Refused): void {
    this.#end(outcomeOf(refused));
  }

  /** Ends it from outside: unbound, tightened, its bytes not to be trusted. */
  cut(refused: Refused): void {
    if (this.ended) return;
    this.refuse(refused);
    this.#onCut?.(refused);
  }

  #end(outcome: Outcome | 'intercepted'): void {
    if (this.#outcome !== undefined) return;
    this.#outcome = outcome;
    for (const undo of this.#ends) undo();
    this.#record(this, outcome);
  }
}

/** What the proxy's own words in its answer make of an exchange that the sidecar allowed. */
export function outcomeOfAnswer(
  status: number,
  header: (name: string) => string | undefined,
): Outcome {
  const code = header('x-outrider-error');
  if (code === undefined) return { verdict: 'allow', status };
  const reason = header('x-outrider-reason');
  // gRPC always answers 200: what it came to is in the code.
  const failure = Object.entries(FAILURES).find(([name]) => name === code)?.[1];
  const means = status === 200 && failure ? failure.http : status;
  return {
    verdict: means === 429 ? 'limit' : means >= 500 ? 'error' : 'deny',
    status: means,
    code,
    reason: reason !== undefined && isReason(reason) ? reason : undefined,
    rule: header('x-outrider-rule'),
    detail: 'by the proxy',
  };
}

/** Not a word about the request: something of the mesh did not work, or the program left. */
const FAULTS: readonly Reason[] = ['internal', 'audit_backpressure', 'draining', 'jwt_exp'];
const LIMITS: readonly Reason[] = ['conn_limit', 'tunnel_limit'];

function outcomeOf({ status, reason, rule, code }: Refused): Outcome {
  const fault = FAULTS.includes(reason) || REASONS[reason].family === 'upstream';
  const limit = status === 429 || LIMITS.includes(reason);
  return { verdict: fault ? 'error' : limit ? 'limit' : 'deny', status, reason, rule, code };
}
