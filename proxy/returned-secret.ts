import type { ExchangeRecord } from './exchange-record.ts';
import type { Parts } from './parts.ts';

/**
 * An upstream has sent a credential back, in `places` places: it was covered, and somebody should know, since nothing that works as it
 * should does that. Never throws: the exchange is over, and what the audit cannot take now it owes.
 */
export function reportReturned(
  { audit, log, metrics, alertOnReturnedSecret }: Parts,
  record: ExchangeRecord,
  places: number,
): void {
  metrics.secretReturns.inc();
  if (!alertOnReturnedSecret) return;
  const alert = record.about('secret', `the credential came back in ${places} places, covered`);
  log.error('an upstream sent a credential back', {
    requestId: record.egressId,
    detail: { credential: alert.credential, target: alert.target },
  });
  try {
    audit.record(alert, record.labels);
  } catch {}
}
