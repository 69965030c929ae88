import {
  AggregatorRegistry,
  Counter,
  collectDefaultMetrics,
  Gauge,
  Histogram,
  type MetricObjectWithValues,
  type MetricValue,
  Registry,
} from 'prom-client';
import { Tally } from './tally.ts';
import { Timing } from './timing.ts';

/**
 * The metrics of one process. Names are fixed here, for every part, so that dashboards and alerts have one list:
 * `outrider_<what>_<unit>`; labels come from closed lists, never a host, a path or an id.
 */
export class Metrics {
  readonly registry = new Registry();

  constructor(part: string) {
    this.registry.setDefaultLabels({ part });
    collectDefaultMetrics({ register: this.registry });
  }

  /** `collect` adds what is new whenever the metrics are asked for. */
  counter<L extends string = never>(
    name: MetricName,
    help: string,
    labelNames: readonly L[] = [],
    collect?: (counter: Counter<L>) => void,
  ): Counter<L> {
    return new Counter({
      name,
      help,
      labelNames: [...labelNames],
      registers: [this.registry],
      ...(collect
        ? {
            collect() {
              collect(this);
            },
          }
        : {}),
    });
  }

  /** A counter, or a gauge, for what happens at every request; with one label or none. */
  tally(name: MetricName, help: string, options: TallyOptions = {}): Tally {
    const { label, kind = 'counter' } = options;
    const tally = new Tally();
    const hand = (metric: Counter | Gauge): void => {
      for (const [value, count] of tally.take())
        metric.inc(label === undefined ? {} : { [label]: value }, count);
    };
    const settings = {
      name,
      help,
      labelNames: label === undefined ? [] : [label],
      registers: [],
    };
    const metric =
      kind === 'gauge'
        ? new Gauge({
            ...settings,
            collect() {
              hand(this);
            },
          })
        : new Counter({
            ...settings,
            collect() {
              hand(this);
            },
          });
    this.registry.registerMetric(metric);
    return tally;
  }

  /** `collect` sets it whenever the metrics are asked for. */
  gauge<L extends string = never>(
    name: MetricName,
    help: string,
    labelNames: readonly L[] = [],
    collect?: (gauge: Gauge<L>) => void,
  ): Gauge<L> {
    return new Gauge({
      name,
      help,
      aggregator: NOT_SUMMED[name] ?? 'sum',
      labelNames: [...labelNames],
      registers: [this.registry],
      ...(collect
        ? {
            collect() {
              collect(this);
            },
          }
        : {}),
    });
  }

  /** Buckets in seconds, from 0.5 ms to 60 s unless told. */
  histogram<L extends string = never>(
    name: MetricName,
    help: string,
    labelNames: readonly L[] = [],
    buckets = SECONDS,
  ): Histogram<L> {
    return new Histogram({
      name,
      help,
      labelNames: [...labelNames],
      buckets: [...buckets],
      registers: [this.registry],
    });
  }

  /** A histogram for what happens at every request; with one label or none. Buckets as those of `histogram`. */
  timing(name: MetricName, help: string, label?: string): Timing {
    const timing = new Timing(name, help, SECONDS, label);
    // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- a registry asks a metric for its name and for `get`; its type names prom-client's own classes alone
    this.registry.registerMetric(timing as unknown as Histogram);
    return timing;
  }

  /** The text format of Prometheus 0.0.4. */
  async text(): Promise<{ type: string; body: string }> {
    return { type: this.registry.contentType, body: await this.registry.metrics() };
  }

  /** All of them as plain data, for another process to sum. */
  async snapshot(): Promise<MetricsSnapshot> {
    const metrics = await this.registry.getMetricsAsJSON();
    // prom-client leaves out of a sum what the buckets of a histogram share.
    return metrics.map((metric) => ({ ...metric, values: metric.values.map(withAllLabels) }));
  }
}

/** What `Metrics.snapshot` gives. */
export type MetricsSnapshot = readonly MetricObjectWithValues<MetricValue<string>>[];

function withAllLabels(
  value: MetricValue<string> & { sharedLabels?: MetricValue<string>['labels'] },
) {
  const { sharedLabels = {}, ...rest } = value;
  return { ...rest, labels: { ...sharedLabels, ...value.labels } };
}

/** One view of the metrics of several processes: counts are summed. In the text format of Prometheus 0.0.4. */
export async function sumMetrics(
  snapshots: readonly MetricsSnapshot[],
): Promise<{ type: string; body: string }> {
  const summed = AggregatorRegistry.aggregate(snapshots.map((one) => [...one]));
  return { type: summed.contentType, body: await summed.metrics() };
}

/** What of several snapshots only ever grows, in one: what processes that have ended leave for the sum. */
export function sumOfCounters(snapshots: readonly MetricsSnapshot[]): MetricsSnapshot {
  const growing = snapshots.map((one) =>
    one.filter(({ type }) => ['counter', 'histogram'].includes(String(type))),
  );
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- `aggregate` registers the sums themselves; its type has those of any metric
  return AggregatorRegistry.aggregate(growing).getMetricsAsArray() as unknown as MetricsSnapshot;
}

/** One series of a metric: found once and kept, since finding it by its labels costs more than counting. */
export type GaugeSeries = Gauge.Internal<string>;
export interface TallyOptions {
  readonly label?: string;
  /** Default `counter`, which only grows. */
  readonly kind?: 'counter' | 'gauge';
}

const SECONDS = [
  0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60,
];

/** Of several processes, of which a sum would say nothing. */
const NOT_SUMMED: Partial<Record<MetricName, 'min' | 'max'>> = {
  outrider_policy_info: 'max',
  outrider_policy_loaded_timestamp_seconds: 'max',
  outrider_policy_reload_failing: 'max',
  outrider_revocation_streams: 'min',
  outrider_limit_store_up: 'min',
};

/** Every metric of Outrider's own. A new one is added here first. */
const METRIC_NAMES = [
  'outrider_requests_total',
  'outrider_request_duration_seconds',
  'outrider_upstream_duration_seconds',
  'outrider_bytes_total',
  'outrider_denials_total',
  'outrider_tunnels_open',
  'outrider_tool_calls_total',
  'outrider_tool_duration_seconds',
  'outrider_auth_failures_total',
  'outrider_backend_up',
  'outrider_backend_inflight',
  'outrider_sessions_total',
  'outrider_failovers_total',
  'outrider_recovery_store_failures_total',
  'outrider_session_recovery_seconds',
  'outrider_sessions_recovered_total',
  'outrider_execs_total',
  'outrider_execs_running',
  'outrider_exec_duration_seconds',
  'outrider_exec_first_byte_seconds',
  'outrider_sandboxes',
  'outrider_pool_warm',
  'outrider_pool_claims_total',
  'outrider_attachments',
  'outrider_policy_info',
  'outrider_policy_loaded_timestamp_seconds',
  'outrider_policy_reload_failing',
  'outrider_policy_reloads_total',
  'outrider_audit_records_total',
  'outrider_audit_head_seq',
  'outrider_audit_pending_records',
  'outrider_token_verifications_total',
  'outrider_limited_total',
  'outrider_limit_store_up',
  'outrider_own_duration_seconds',
  'outrider_upstreams',
  'outrider_breaker_opened_total',
  'outrider_token_exchanges_total',
  'outrider_revocation_streams',
  'outrider_secret_returns_total',
  'outrider_workers_ready',
  'outrider_worker_restarts_total',
] as const;
export type MetricName = (typeof METRIC_NAMES)[number];
