import type { Metrics } from '#core/metrics';

/** The metrics of a sidecar process; labels come from closed lists. */
export type Measures = ReturnType<typeof createMeasures>;

export function createMeasures(metrics: Metrics) {
  return {
    requests: metrics.counter('outrider_requests_total', 'Requests and tunnels, by verdict.', [
      'verdict',
    ]),
    denials: metrics.counter('outrider_denials_total', 'Refusals, by reason.', ['reason']),
    duration: metrics.histogram(
      'outrider_request_duration_seconds',
      'From the head of a request to the end of its answer.',
    ),
    bytes: metrics.counter('outrider_bytes_total', 'Body and tunnel bytes, by direction.', [
      'direction',
    ]),
    tunnels: metrics.gauge('outrider_tunnels_open', 'Tunnels that are open.'),
    attachments: metrics.gauge('outrider_attachments', 'Attachments that are open.'),
    pending: metrics.gauge(
      'outrider_audit_pending_records',
      'Audit records that the proxy has not acknowledged.',
    ),
    records: metrics.counter('outrider_audit_records_total', 'Audit records written.'),
  };
}
