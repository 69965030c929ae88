import type { AuditChain } from '#core/audit';
import type { Binding } from './binding.ts';
import { Exchange, type Outcome } from './exchange.ts';
import type { Measures } from './measures.ts';
import { Refused } from './refusal.ts';
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

/** Everything that happens at one door, each thing recorded once. */
export class Journal {
  readonly live = new Set<Exchange>();
  readonly #deps: JournalDeps;
  #refusing = false;
  #unrecorded = 0;

  constructor(deps: JournalDeps) {
    this.#deps = deps;
  }

  /** A new exchange, with the place of its record taken. @throws {Refused} audit_backpressure where there is no place */
  begin(ingress: Ingress, method: string, binding: Binding | undefined): Exchange {
    const { spool, measures } = this.#deps;
    if (!spool.reserve()) {
      this.#unrecorded += 1;
      measures.denials.inc({ reason: 'audit_backpressure' });
      this.#setRefusing(true);
      throw new Refused('audit_backpressure');
    }
    const exchange = new Exchange(ingress, method, binding, (ended, outcome) =>
      this.#record(ended, outcome),
    );
    this.live.add(exchange);
    return exchange;
  }

  /** Says that records have left the spool; what was refused meanwhile gets one record with its number. */
  delivered(): void {
    const { spool, chain, sandboxId } = this.#deps;
    if (!this.#refusing || spool.full) return;
    const detail = `${this.#unrecorded} requests were refused while the spool was full`;
    this.#unrecorded = 0;
    chain.append({
      event: 'request',
      sandboxId,
      verdict: 'error',
      reason: 'audit_backpressure',
      detail,
    });
    this.#setRefusing(false);
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

  #record(exchange: Exchange, outcome: Outcome): void {
    const { chain, spool, sandboxId, measures, onRecord } = this.#deps;
    const { binding, grant, target } = exchange;
    const durationMs = performance.now() - exchange.startedAt;
    this.live.delete(exchange);
    spool.release();
    chain.append({
      event: 'request',
      requestId: binding?.exec.requestId,
      egressId: exchange.requestId,
      ...binding?.exec.principal,
      role: binding?.exec.role,
      sandboxId,
      execId: binding?.exec.execId,
      ingress: exchange.ingress,
      method: exchange.method.slice(0, 64),
      target: exchange.targetText?.slice(0, TEXT_MAX),
      verdict: outcome.verdict,
      policy: grant?.policy,
      rule: outcome.rule ?? grant?.rule,
      reportedRule: grant?.reported?.rule ?? undefined,
      reportedReason: grant?.reported?.reason,
      tokenId: binding?.tokenId,
      reason: outcome.reason,
      code: outcome.code,
      policyDigest: binding?.policy?.digest,
      policyCommit: binding?.policy?.commit,
      policySerial: binding?.policy?.serial,
      datasource: target?.kind === 'datasource' ? `${target.type}/${target.name}` : undefined,
      credential: grant?.credential ?? undefined,
      status: outcome.status,
      bytesIn: exchange.bytesIn,
      bytesOut: exchange.bytesOut,
      durationMs: Math.round(durationMs * 100) / 100,
      detail: outcome.detail,
    });
    measures.records.inc();
    measures.requests.inc({ verdict: outcome.verdict });
    measures.duration.observe(durationMs / 1000);
    measures.bytes.inc({ direction: 'in' }, exchange.bytesIn);
    measures.bytes.inc({ direction: 'out' }, exchange.bytesOut);
    if (outcome.verdict !== 'allow' && outcome.reason !== undefined)
      measures.denials.inc({ reason: outcome.reason });
    if (binding) this.#count(binding, exchange, outcome);
    onRecord();
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
