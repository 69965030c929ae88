import { AuditChain, type AuditFields, type AuditLabels } from '#core/audit';
import { AuditFile } from '#core/audit-file';
import type { AuditSink, AuditTurn } from '#core/audit-line';
import { OutriderError } from '#core/errors';
import { auditSigningKey } from '#core/keys';
import type { Logger } from '#core/log';
import { givesUpRoot } from '#core/mesh-user';
import type { Metrics } from '#core/metrics';
import type { GatewayConfig } from './config.ts';

/** Lines that could not be written yet; beyond these the call that made one is only in the log. */
const OWED_MAX = 10_000;

/** The gateway's chain: one record for each call of a tool, whatever came of it. */
export interface GatewayAudit {
  /** To be called before a call is sent on. @throws {OutriderError} AUDIT_UNAVAILABLE while what has been is not recorded */
  assertWritable(): void;
  /** Records what is over. It reaches the file by the end of this turn of the event loop, with what else this turn has recorded; where it cannot, it is owed. Never throws. `labels`: fields that it has in common with others. */
  record(fields: AuditFields, labels?: AuditLabels): void;
  close(): Promise<void>;
}

/** Opens the chain in the file `audit`, which begins anew as `auditMaxBytes` and `auditFiles` say, signed every 10 s with the gateway's key in the directory `auditKeys`. */
export function openAudit(
  {
    audit,
    auditMaxBytes,
    auditFiles,
    auditKeys,
    user,
  }: Pick<GatewayConfig, 'audit' | 'auditMaxBytes' | 'auditFiles' | 'auditKeys' | 'user'>,
  log: Logger,
  metrics: Metrics,
): GatewayAudit {
  const signingKey = auditSigningKey(auditKeys, 'gateway');
  const rotation = { maxBytes: auditMaxBytes, files: auditFiles };
  const file = new AuditFile(audit, rotation, { slots: givesUpRoot(user) });
  return createAudit(file, { signingKey, log, metrics });
}

/** The same into a sink. */
export function createAudit(
  sink: AuditSink,
  {
    signingKey,
    log,
    metrics,
  }: { signingKey?: ReturnType<typeof auditSigningKey>; log: Logger; metrics: Metrics },
): GatewayAudit {
  const written = metrics.tally('outrider_audit_records_total', 'Audit records written.');
  const turn = new TurnSink(sink, (error, owed) =>
    log.error('audit records cannot be written', { error, detail: { owed } }),
  );
  const chain = new AuditChain('gateway', turn, { signingKey });
  metrics.gauge('outrider_audit_head_seq', 'Number of the last audit record.', [], (headSeq) =>
    headSeq.set(chain.head.seq),
  );
  chain.startCheckpoints();
  return {
    assertWritable() {
      if (turn.failing) turn.write();
    },
    record(fields, labels) {
      try {
        chain.append(fields, labels);
        written.add(1);
      } catch (error) {
        log.error('an audit record is lost', { error });
      }
    },
    async close() {
      try {
        turn.write();
      } finally {
        await chain.close();
      }
    },
  };
}

/** Writes what one turn of the event loop has recorded at once: under load many calls end in one turn, and each write is a call of the system. */
class TurnSink implements AuditSink {
  readonly previous: AuditSink['previous'];
  readonly #sink: AuditSink;
  readonly #failed: (error: unknown, owed: number) => void;
  #lines: string[] = [];
  #due: NodeJS.Immediate | undefined;
  #failing = false;

  constructor(sink: AuditSink, failed: (error: unknown, owed: number) => void) {
    this.#sink = sink;
    this.previous = sink.previous;
    this.#failed = failed;
  }

  /** Whether the last attempt to write failed. */
  get failing(): boolean {
    return this.#failing;
  }

  append(line: string): void {
    if (this.#lines.length >= OWED_MAX) throw unavailable('too many records are owed');
    this.#lines.push(line);
    this.#due ??= setImmediate(() => this.#writeOrTell());
  }

  /** @throws {OutriderError} AUDIT_UNAVAILABLE, and the lines are kept for the next time */
  write(): void {
    clearImmediate(this.#due);
    this.#due = undefined;
    if (this.#lines.length === 0) return;
    try {
      this.#sink.append(this.#lines.join('\n'));
    } catch (error) {
      this.#failing = true;
      throw unavailable(error);
    }
    this.#lines = [];
    this.#failing = false;
  }

  /** Asked of the first line of a turn alone: what one turn has recorded stays in one file. */
  turn(bytes: number): AuditTurn | undefined {
    return this.#lines.length === 0 ? this.#sink.turn?.(bytes) : undefined;
  }

  flush(): void {
    this.write();
    this.#sink.flush?.();
  }

  close(): void {
    try {
      this.write();
    } finally {
      this.#sink.close?.();
    }
  }

  #writeOrTell(): void {
    try {
      this.write();
    } catch (error) {
      this.#failed(error, this.#lines.length);
    }
  }
}

function unavailable(cause: unknown): OutriderError {
  return new OutriderError('AUDIT_UNAVAILABLE', 'the audit cannot be written', { cause });
}
