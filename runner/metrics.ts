import type { Metrics } from '#core/metrics';

export type RunnerMetrics = ReturnType<typeof runnerMetrics>;

/** What a runner counts. Labels: `killed_by` of the closed list, `warm` true or false. */
export function runnerMetrics(metrics: Metrics) {
  return {
    execs: metrics.counter('outrider_execs_total', 'Programs ended, by why', ['killed_by']),
    running: metrics.gauge('outrider_execs_running', 'Programs running now'),
    duration: metrics.histogram('outrider_exec_duration_seconds', 'Wall time of programs', [
      'killed_by',
    ]),
    firstByte: metrics.histogram(
      'outrider_exec_first_byte_seconds',
      'From request to first output',
      ['warm'],
    ),
    sandboxes: metrics.gauge('outrider_sandboxes', 'Sandboxes in use'),
    warm: metrics.gauge('outrider_pool_warm', 'Warm sandboxes waiting'),
    claims: metrics.counter('outrider_pool_claims_total', 'Sandboxes handed out', ['warm']),
  };
}
