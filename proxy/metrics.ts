import type { Metrics } from '#core/metrics';

/** The metrics of the proxy; labels from closed lists only. */
export type ProxyMetrics = ReturnType<typeof proxyMetrics>;

export function proxyMetrics(metrics: Metrics) {
  return {
    requests: metrics.counter(
      'outrider_requests_total',
      'Requests and tunnels out of sandboxes, by verdict.',
      ['verdict'],
    ),
    denials: metrics.counter('outrider_denials_total', 'Refusals, by reason.', ['reason']),
    duration: metrics.histogram(
      'outrider_request_duration_seconds',
      'From the request to the end of its answer, without the time of the upstream.',
    ),
    upstream: metrics.histogram(
      'outrider_upstream_duration_seconds',
      'From sending the request on to the beginning of the answer.',
    ),
    bytes: metrics.counter('outrider_bytes_total', 'Bytes of bodies and tunnels.', ['direction']),
    tunnels: metrics.gauge('outrider_tunnels_open', 'Open tunnels.'),
    tokens: metrics.counter(
      'outrider_token_verifications_total',
      'Execution tokens seen, by result.',
      ['result'],
    ),
  };
}
