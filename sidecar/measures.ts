import type { Metrics } from '#core/metrics';
import { Tally } from '#core/tally';

/** The metrics of a sidecar process; labels come from closed lists. */
export interface Measures {
  readonly requests: Tally;
  readonly denials: Tally;
  readonly duration: { observe(seconds: number): void };
  readonly bytes: Tally;
  readonly tunnels: Level;
  readonly attachments: Level;
  readonly pending: Tally;
  readonly records: Tally;
}

interface Level {
  inc(): void;
  dec(): void;
}

/** Without `metrics`, those of a process that nobody can ask. */
export function createMeasures(metrics: Metrics | undefined): Measures {
  if (!metrics) return unread();
  return {
    requests: metrics.tally('outrider_requests_total', 'Requests and tunnels, by verdict.', {
      label: 'verdict',
    }),
    denials: metrics.tally('outrider_denials_total', 'Refusals, by reason.', { label: 'reason' }),
    duration: metrics.timing(
      'outrider_request_duration_seconds',
      'From the head of a request to the end of its answer.',
    ),
    bytes: metrics.tally('outrider_bytes_total', 'Body and tunnel bytes, by direction.', {
      label: 'direction',
    }),
    tunnels: metrics.gauge('outrider_tunnels_open', 'Tunnels that are open.'),
    attachments: metrics.gauge('outrider_attachments', 'Attachments that are open.'),
    pending: metrics.tally(
      'outrider_audit_pending_records',
      'Audit records that the proxy has not acknowledged.',
      { kind: 'gauge' },
    ),
    records: metrics.tally('outrider_audit_records_total', 'Audit records written.'),
  };
}

function unread(): Measures {
  const tally = new Tally();
  const level = { inc: () => {}, dec: () => {} };
  return {
    requests: tally,
    denials: tally,
    duration: { observe: () => {} },
    bytes: tally,
    tunnels: level,
    attachments: level,
    pending: tally,
    records: tally,
  };
}
