import type { AuditChain, AuditFields } from '#core/audit';
import type { Logger } from '#core/log';
import type { Principal } from '#core/principal';
import type { Ending } from './exec.ts';
import type { ExecFacts } from './exec-facts.ts';
import type { StepOutcome } from './install.ts';
import type { RunnerMetrics } from './metrics.ts';

export interface ExecLogDeps {
  readonly audit: AuditChain;
  readonly metrics: RunnerMetrics;
  readonly log: Logger;
}

/** The ends of execs and sandboxes in audit and metrics. They are recorded after the fact: where that fails, nothing new is started until it works again. */
export class ExecLog {
  readonly #deps: ExecLogDeps;
  #broken = false;

  constructor(deps: ExecLogDeps) {
    this.#deps = deps;
  }

  /** Whether the last record could not be written. */
  get broken(): boolean {
    return this.#broken;
  }

  /** Nothing runs that cannot be recorded. @throws {OutriderError} AUDIT_UNAVAILABLE */
  assertWritable(): void {
    if (!this.#broken) return;
    this.#deps.audit.append({
      event: 'config',
      detail: 'the audit can be written again; records were lost before this one',
    });
    this.#broken = false;
  }

  /** One exec's end; `outcome` of one that installed something. Never throws. */
  ended(principal: Principal, facts: ExecFacts, ending: Ending, outcome?: StepOutcome): void {
    const { metrics } = this.#deps;
    metrics.execs.inc({ killed_by: ending.killedBy });
    metrics.duration.observe({ killed_by: ending.killedBy }, ending.wallMs / 1000);
    const { issuer, subject, tenant } = principal;
    this.append({
      event: 'exec',
      requestId: facts.requestId,
      issuer,
      subject,
      tenant,
      role: facts.role,
      sandboxId: facts.sandboxId,
      execId: facts.execId,
      session: facts.session || undefined,
      purpose: facts.purpose || undefined,
      policyDigest: facts.policyDigest,
      policyCommit: facts.policyRevision?.commit,
      policySerial: facts.policyRevision?.serial,
      killedBy: ending.killedBy,
      exitCode: ending.exitCode,
      code: outcome?.error?.code ?? (ending.errorCode || undefined),
      detail: outcome?.detail,
      durationMs: Math.round(ending.wallMs),
      cpuMs: ending.cpuMs,
      maxRssBytes: ending.maxRssBytes,
      stdoutBytes: ending.stdout.total,
      stderrBytes: ending.stderr.total,
      backend: facts.attestation?.backend,
      tier: facts.attestation?.tier,
      head: ending.egress.auditHead,
    });
  }

  /** Never throws. */
  append(fields: AuditFields): void {
    try {
      this.#deps.audit.append(fields);
    } catch (error) {
      const { execId, sandboxId } = fields;
      this.#deps.log.error('an end could not be recorded', { error, execId, sandboxId });
      this.#broken = true;
    }
  }
}
