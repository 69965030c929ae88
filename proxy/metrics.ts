import type { Metrics } from '#core/metrics';
import type { Breakers } from './breaker.ts';

/** The metrics of the proxy; labels from closed lists only. */
export type ProxyMetrics = ReturnType<typeof proxyMetrics>;

export function proxyMetrics(metrics: Metrics) {
  return {
    requests: metrics.tally(
      'outrider_requests_total',
      'Requests and tunnels out of sandboxes, by verdict.',
      { label: 'verdict' },
    ),
    denials: metrics.counter('outrider_denials_total', 'Refusals, by reason.', ['reason']),
    duration: metrics.timing(
      'outrider_request_duration_seconds',
      'From the request to the end of its answer.',
    ),
    own: metrics.timing(
      'outrider_own_duration_seconds',
      'Of that, from the request until it is sent on, or refused: verifying, deciding, limits, name and credential.',
    ),
    upstream: metrics.timing(
      'outrider_upstream_duration_seconds',
      'From sending the request on to the beginning of the answer.',
    ),
    bytes: metrics.tally('outrider_bytes_total', 'Bytes of bodies and tunnels.', {
      label: 'direction',
    }),
    tunnels: metrics.gauge('outrider_tunnels_open', 'Open tunnels.'),
    tokens: metrics.tally(
      'outrider_token_verifications_total',
      'Execution tokens seen, by result.',
      { label: 'result' },
    ),
    limited: metrics.counter('outrider_limited_total', 'Requests over a limit, by whose it is.', [
      'dimension',
    ]),
    exchanges: metrics.counter(
      'outrider_token_exchanges_total',
      'Access tokens of identity providers that were to be exchanged, by result.',
      ['result'],
    ),
    secretReturns: metrics.counter(
      'outrider_secret_returns_total',
      'Answers in which an upstream sent a credential back, which was covered.',
    ),
    breakerOpened: metrics.counter('outrider_breaker_opened_total', 'Breakers that opened.'),
    revocationStreams: metrics.gauge(
      'outrider_revocation_streams',
      'Runners that tell this proxy which executions have ended.',
    ),
  };
}

/** Of a proxy that is to share its limits, which has no other. */
export function limitStoreMetric(metrics: Metrics) {
  return metrics.gauge(
    'outrider_limit_store_up',
    'Whether the limits are shared with other proxies now; absent where they are not to be.',
  );
}

/** Counts the upstreams that could not be reached lately, whenever the metrics are asked for. */
export function measureBreakers(metrics: Metrics, breakers: Breakers): void {
  metrics.gauge(
    'outrider_upstreams',
    'Upstreams that could not be reached lately, by the state of their breaker.',
    ['state'],
    (gauge) => {
      for (const [state, count] of Object.entries(breakers.count())) gauge.set({ state }, count);
    },
  );
}
