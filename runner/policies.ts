import type { PolicyInForce } from '#policystore';

/** The policies in force: the current one and, for a share of new sandboxes, a canary's. */
export interface Policies {
  readonly current: PolicyInForce;
  readonly inForce: readonly PolicyInForce[];
  ofDigest(digest: string): PolicyInForce | undefined;
  forNewSandbox(): PolicyInForce;
}

/** What is held to the policy of this digest: to that one while it is in force, and to the current one from then on. */
export function heldTo(policies: Policies, digest: string): PolicyInForce {
  return policies.ofDigest(digest) ?? policies.current;
}
