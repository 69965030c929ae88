import { AuditChain, type AuditFields, AuditFile } from '#core/audit';
import { OutriderError } from '#core/errors';
import { auditSigningKey } from '#core/keys';
import type { Logger } from '#core/log';
import type { Metrics } from '#core/metrics';

/** Records that could not be written yet; beyond these the call that made one is only in the log. */
const OWED_MAX = 10_000;

/** The gateway's chain: one record for each call of a tool, whatever came of it. */
export interface GatewayAudit {
  /** To be called before a call is sent on. @throws {OutriderError} AUDIT_UNAVAILABLE while what has been is not recorded */
  assertWritable(): void;
  /** Writes one record, or owes it. Never throws: what it tells of is over. */
  record(fields: AuditFields): void;
  close(): Promise<void>;
}

/** Opens the chain in the file `audit`, signed every 10 s with the gateway's key in the directory `auditKeys`. */
export function openAudit(
  { audit, auditKeys }: { readonly audit: string; readonly auditKeys: string },
  log: Logger,
  metrics: Metrics,
): GatewayAudit {
  const signingKey = auditSigningKey(auditKeys, 'gateway');
  const chain = new AuditChain('gateway', new AuditFile(audit), { signingKey });
  chain.startCheckpoints();
  return createAudit(chain, log, metrics);
}

/** The same over a chain that is open. */
export function createAudit(chain: AuditChain, log: Logger, metrics: Metrics): GatewayAudit {
  const headSeq = metrics.gauge('outrider_audit_head_seq', 'Number of the last audit record.');
  const written = metrics.counter('outrider_audit_records_total', 'Audit records written.');
  const owed: AuditFields[] = [];
  const settle = (): void => {
    for (let next = owed[0]; next !== undefined; next = owed[0]) {
      chain.append(next);
      owed.shift();
      written.inc();
      headSeq.set(chain.head.seq);
    }
  };
  return {
    assertWritable() {
      try {
        settle();
      } catch (error) {
        throw new OutriderError('AUDIT_UNAVAILABLE', 'the audit cannot be written', {
          cause: error,
        });
      }
    },
    record(fields) {
      if (owed.length < OWED_MAX) owed.push(fields);
      try {
        settle();
      } catch (error) {
        log.error('an audit record cannot be written', { error, detail: { owed: owed.length } });
      }
    },
    async close() {
      try {
        settle();
      } finally {
        await chain.close();
      }
    },
  };
}
