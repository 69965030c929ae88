import type { AuditFields } from '#core/audit';
import type { PolicyInForce, PolicyReload } from './in-force.ts';
import type { PolicyStore } from './store.ts';

/** What `/readyz` says of a store: which revision decides, since when, and why a newer one does not. */
export function readyPolicy(
  store: Pick<PolicyStore, 'current' | 'canary' | 'since' | 'failure'>,
): Record<string, unknown> {
  const { current, canary, since, failure } = store;
  const { digest: policyDigest, commit, serial } = revisionOf(current);
  return {
    policyDigest,
    policyCommit: commit,
    policySerial: serial,
    policySince: since.toISOString(),
    ...(canary ? { policyCanary: { ...revisionOf(canary.policy), share: canary.share } } : {}),
    ...(failure === undefined ? {} : { policyFailure: failure.slice(0, FAILURE_MAX_CHARS) }),
  };
}

/** The audit record of a policy that was loaded or refused; a canary is named in `detail`. */
export function policyRecord(change: PolicyReload): AuditFields {
  const { digest, commit, serial } = revisionOf(change.current);
  const active = {
    policyDigest: digest,
    policyCommit: commit ?? undefined,
    policySerial: serial ?? undefined,
  };
  if (change.result === 'refused')
    return {
      event: 'policy',
      verdict: 'error',
      code: 'POLICY_INVALID',
      ...active,
      detail: `refused, the old policy stays: ${change.problem}`.slice(0, DETAIL_MAX_CHARS),
    };
  const { canary } = change;
  const revision = canary && revisionOf(canary.policy);
  return {
    event: 'policy',
    verdict: 'allow',
    ...active,
    detail: revision
      ? `loaded, with a canary of ${canary.share}: digest ${revision.digest}, serial ${revision.serial}, commit ${revision.commit}`
      : 'loaded',
  };
}

const FAILURE_MAX_CHARS = 4_000;
const DETAIL_MAX_CHARS = 500;

function revisionOf({ digest, revision }: PolicyInForce): {
  digest: string;
  commit: string | null;
  serial: number | null;
} {
  return { digest, commit: revision?.commit ?? null, serial: revision?.serial ?? null };
}
