import { type AuditChain, AuditLabels } from '#core/audit';
import { OpenList } from '#core/open-list';
import { spokenIn } from '#policies';
import type { Binding, ExecPolicy } from './binding.ts';
import { Exchange, type Outcome } from './exchange.ts';
import type { Measures } from './measures.ts';
import { Refused } from './refusal.ts';
import { RefusalPace } from './refusal-pace.ts';
import type { Ingress } from './request-target.ts';
import type { Spool } from './spool.ts';

/** A refusal as the runner is told of it. */
export interface DeniedEvent {
  readonly execId: string;
  readonly reason: string;
  readonly rule: string;
  readonly target: string;
}

export interface JournalDeps {
  readonly sandboxId: string;
  readonly chain: AuditChain;
  readonly spool: Spool;
  readonly measures: Measures;
  readonly onDenied: (event: DeniedEvent) => void;
  /** Called when traffic starts, and when it stops, being refused because records have no place. */
  readonly onSpool: (refusing: boolean, pending: number) => void;
  readonly onRecord: () => void;
}

/** The proto's bound: of further refusals only the number is told. */
const DENIED_EVENTS_MAX = 100;
const TEXT_MAX = 2_048;
/** Of a refused target: it costs a program nothing to ask for a long one. */
const REFUSED_TEXT_MAX = 256;
const SUMMARY_MS = 1_000;

/**
 * Everything that happens at one door, each thing recorded once. Refusals that the sidecar alone knows of have a pace, which whoever
 * answers them keeps by `heldMs`. Those that come far ahead of it all the same, since nobody waits for their answers, are recorded as
 * a number, once a second.
 */
export class Journal {
  readonly live = new OpenList<Exchange>();
  readonly #deps: JournalDeps;
  #refusing = false;
  #unrecorded = 0;
  readonly #pace = new RefusalPace();
  /** Refusals that are only counted, of one binding; the place of their summary is taken while there are any. */
  #flood:
    | { readonly binding: Binding | undefined; readonly byReason: Map<string, number> }
    | undefined;
  #summary: NodeJS.Timeout | undefined;
  #labels:
    | {
        readonly binding: Binding | undefined;
        readonly policy: ExecPolicy | undefined;
        readonly tokenId: string | undefined;
        readonly labels: AuditLabels;
      }
    | undefined;

  constructor(deps: JournalDeps) {
    this.#deps = deps;
  }

  /** A new exchange, with the place of its record taken. @throws {Refused} audit_backpressure where there is no place */
  begin(ingress: Ingress, method: string, binding: Binding | undefined): Exchange {
    const { spool, measures } = this.#deps;
    if (!spool.reserve()) {
      this.#unrecorded += 1;
      measures.denials.add(1, 'audit_backpressure');
      this.#setRefusing(true);
      throw new Refused('audit_backpressure');
    }
    const exchange = new Exchange(ingress, method, binding, (ended, outcome) =>
      this.#record(ended, outcome),
    );
    this.live.add(exchange);
    return exchange;
  }

  /** How long to hold back the answer to a refusal, and what comes on a new connection: longer the more was refused lately. */
  get heldMs(): number {
    return this.#pace.aheadMs(performance.now());
  }

  /** Says that records have left the spool; what was refused meanwhile gets one record with its number. */
  delivered(): void {
    if (!this.#refusing || this.#deps.spool.full) return;
    this.#sumUpBackpressure();
    this.#setRefusing(false);
  }

  /** Records the number of refusals that were not recorded one by one, where there are any. */
  sumUpRefusals(): void {
    clearTimeout(this.#summary);
    const flood = this.#flood;
    if (!flood) return;
    this.#flood = undefined;
    const { chain, spool, measures, onRecord } = this.#deps;
    spool.release();
    chain.append(
      {
        event: 'request',
        verdict: 'limit',
        reason: 'refusal_flood',
        code: 'RATE_LIMITED',
        detail: `${sumOf(flood.byReason)} more requests were refused than are recorded one by one: ${list(flood.byReason)}`,
      },
      this.#labelsOf(flood.binding),
    );
    measures.records.add(1);
    onRecord();
  }

  /** Records what was only counted so far, as the last before the chain's end. */
  finish(): void {
    this.sumUpRefusals();
    if (this.#refusing) this.#sumUpBackpressure();
    this.#refusing = false;
  }

  /** Ends every exchange of which `why` gives a reason, and says how many. */
  cut(why: (exchange: Exchange) => Refused | undefined): number {
    let count = 0;
    for (const exchange of this.live) {
      const refused = why(exchange);
      if (refused === undefined) continue;
      exchange.cut(refused);
      count += 1;
    }
    return count;
  }

  #record(exchange: Exchange, outcome: Outcome | 'intercepted'): void {
    const { measures, spool } = this.#deps;
    const durationMs = performance.now() - exchange.startedAt;
    this.live.delete(exchange);
    if (outcome === 'intercepted') {
      spool.release();
      return;
    }
    // Of what has been sent on, both ends of the hop have a record.
    const paced = outcome.verdict !== 'allow' && !exchange.forwarded;
    if (paced && !this.#pace.take(performance.now()))
      this.#countOnly(exchange, outcome.reason ?? 'none');
    else this.#write(exchange, outcome, durationMs);
    measures.requests.add(1, outcome.verdict);
    measures.duration.observe(durationMs / 1000);
    measures.bytes.add(exchange.bytesIn, 'in');
    measures.bytes.add(exchange.bytesOut, 'out');
    if (outcome.verdict !== 'allow' && outcome.reason !== undefined)
      measures.denials.add(1, outcome.reason);
    if (exchange.binding) this.#count(exchange.binding, exchange, outcome);
  }

  #countOnly({ binding }: Exchange, reason: string): void {
    if (this.#flood && this.#flood.binding !== binding) this.sumUpRefusals();
    if (this.#flood) {
      const { byReason } = this.#flood;
      byReason.set(reason, (byReason.get(reason) ?? 0) + 1);
      this.#deps.spool.release();
      return;
    }
    // The place that the record would have had is kept for the summary.
    this.#flood = { binding, byReason: new Map([[reason, 1]]) };
    this.#summary = setTimeout(() => this.sumUpRefusals(), SUMMARY_MS).unref();
  }

  #write(exchange: Exchange, outcome: Outcome, durationMs: number): void {
    const { chain, spool, measures, onRecord } = this.#deps;
    const { binding, grant, target } = exchange;
    const textMax = outcome.verdict === 'allow' ? TEXT_MAX : REFUSED_TEXT_MAX;
    spool.release();
    chain.append(
      {
        event: 'request',
        egressId: exchange.requestId,
        ingress: exchange.ingress,
        method: exchange.method.slice(0, 64),
        protocol: target && spokenIn(target),
        target: exchange.targetText?.slice(0, textMax),
        verdict: outcome.verdict,
        policy: grant?.policy,
        rule: outcome.rule ?? grant?.rule,
        reportedRule: grant?.reported?.rule ?? undefined,
        reportedReason: grant?.reported?.reason,
        reason: outcome.reason,
        code: outcome.code,
        datasource: target?.kind === 'datasource' ? `${target.type}/${target.name}` : undefined,
        credential: grant?.credential ?? undefined,
        status: outcome.status,
        bytesIn: exchange.bytesIn,
        bytesOut: exchange.bytesOut,
        durationMs: Math.round(durationMs * 100) / 100,
        detail: outcome.detail,
      },
      this.#labelsOf(binding),
    );
    measures.records.add(1);
    onRecord();
  }

  /** Whose a record is. The text is kept until the exec, its newest policy or its token is another. */
  #labelsOf(binding: Binding | undefined): AuditLabels {
    const { policy, tokenId } = binding ?? {};
    const kept = this.#labels;
    if (kept && kept.binding === binding && kept.policy === policy && kept.tokenId === tokenId)
      return kept.labels;
    const labels = new AuditLabels({
      requestId: binding?.exec.requestId,
      ...binding?.exec.principal,
      role: binding?.exec.role,
      sandboxId: this.#deps.sandboxId,
      execId: binding?.exec.execId,
      tokenId,
      policyDigest: policy?.digest,
      policyCommit: policy?.commit,
      policySerial: policy?.serial,
    });
    this.#labels = { binding, policy, tokenId, labels };
    return labels;
  }

  #sumUpBackpressure(): void {
    const { chain, sandboxId } = this.#deps;
    const detail = `${this.#unrecorded} requests were refused while the spool was full`;
    this.#unrecorded = 0;
    chain.append({
      event: 'request',
      sandboxId,
      verdict: 'error',
      reason: 'audit_backpressure',
      detail,
    });
  }

  #count(binding: Binding, exchange: Exchange, outcome: Outcome): void {
    const { totals, exec } = binding;
    totals.bytesIn += exchange.bytesIn;
    totals.bytesOut += exchange.bytesOut;
    if (outcome.verdict === 'allow') totals.allowed += 1;
    else if (outcome.verdict === 'limit') totals.limited += 1;
    else if (outcome.verdict === 'error') totals.failed += 1;
    else {
      totals.denied += 1;
      binding.reported += 1;
      if (binding.reported > DENIED_EVENTS_MAX) return;
      this.#deps.onDenied({
        execId: exec.execId,
        reason: outcome.reason ?? '',
        rule: outcome.rule ?? '',
        target: exchange.targetText?.slice(0, TEXT_MAX) ?? '',
      });
    }
  }

  #setRefusing(refusing: boolean): void {
    if (this.#refusing === refusing) return;
    this.#refusing = refusing;
    this.#deps.onSpool(refusing, this.#deps.spool.pending);
  }
}

function sumOf(counts: ReadonlyMap<string, number>): number {
  return [...counts.values()].reduce((sum, count) => sum + count, 0);
}

/** `path_not_allowed 12, h2_reset_flood 1`: reasons are a closed list. */
function list(counts: ReadonlyMap<string, number>): string {
  return [...counts].map(([reason, count]) => `${reason} ${count}`).join(', ');
}
