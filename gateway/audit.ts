import { AuditChain, type AuditFields, type AuditLabels } from '#core/audit';
import { AuditFile } from '#core/audit-file';
import type { AuditSink } from '#core/audit-line';
import { TurnSink } from '#core/audit-turn';
import { auditSigningKey } from '#core/keys';
import type { Logger } from '#core/log';
import { givesUpRoot } from '#core/mesh-user';
import type { Metrics } from '#core/metrics';
import type { GatewayConfig } from './config.ts';

/** The gateway's chain: one record for each call of a tool, whatever came of it, and for what was refused unread. */
export interface GatewayAudit {
  /** To be called before a call is sent on. @throws {OutriderError} AUDIT_UNAVAILABLE while what has been is not recorded */
  assertWritable(): void;
  /** Records what is over. It reaches the file by the end of this turn of the event loop, with what else this turn has recorded; where it cannot, it is owed; beyond 10 000 of those it is only in the log. Never throws. `labels`: fields that it has in common with others. */
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
