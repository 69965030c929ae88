import { canonicalJson, type Phase, type PolicySet, projectRole } from '#policies';

/** Roles, tenants and phases of one policy whose projections are kept; where there are more, all are made again. */
const KEPT_MAX = 1_024;
const kept = new WeakMap<PolicySet, Map<string, string>>();

/**
 * What a role may do for a tenant in a phase, as the sidecar is told: canonical JSON. Made once for each policy: it is on the way to a program's
 * first byte. @throws {OutriderError} ROLE_DENIED where the policy has no such role
 */
export function projectionText(
  set: PolicySet,
  role: string,
  tenant: string,
  phase: Phase = 'run',
): string {
  const ofSet = kept.get(set) ?? new Map<string, string>();
  kept.set(set, ofSet);
  const key = JSON.stringify([role, tenant, phase]);
  const text = ofSet.get(key) ?? canonicalJson(projectRole(set, role, tenant, phase));
  if (ofSet.size >= KEPT_MAX) ofSet.clear();
  ofSet.set(key, text);
  return text;
}
