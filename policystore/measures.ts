import type { Metrics } from '#core/metrics';
import type { PolicyCanary, PolicyInForce } from './in-force.ts';

/** What a process tells its metrics of its policy. */
export interface PolicyMeasures {
  readonly inForce: (current: PolicyInForce, canary: PolicyCanary | undefined) => void;
  readonly reloaded: (result: 'ok' | 'failed') => void;
}

/** Metrics of one store; without `metrics`, none. */
export function createPolicyMeasures(metrics: Metrics | undefined): PolicyMeasures {
  const reloads = metrics?.counter('outrider_policy_reloads_total', 'Policy reloads, by result', [
    'result',
  ]);
  const failing = metrics?.gauge(
    'outrider_policy_reload_failing',
    'Whether what is there now could not be loaded, so that an older policy stays in force',
  );
  const since = metrics?.gauge(
    'outrider_policy_loaded_timestamp_seconds',
    'When the policy in force was loaded',
  );
  const info = metrics?.gauge(
    'outrider_policy_info',
    'The policies in force; the value is the share of new sandboxes that each gets',
    ['digest', 'commit', 'serial'],
  );
  const show = ({ digest, revision }: PolicyInForce, share: number) =>
    info?.set(
      { digest, commit: revision?.commit ?? '', serial: String(revision?.serial ?? '') },
      share,
    );
  return {
    inForce(current, canary) {
      info?.reset();
      show(current, 1 - (canary?.share ?? 0));
      if (canary) show(canary.policy, canary.share);
      since?.set(Date.now() / 1_000);
      failing?.set(0);
    },
    reloaded(result) {
      reloads?.inc({ result });
      failing?.set(result === 'ok' ? 0 : 1);
    },
  };
}
