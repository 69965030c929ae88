import { OutriderError } from '#core/errors';
import {
  canonicalJson,
  interceptedHosts,
  type Phase,
  type PolicySet,
  projectRole,
} from '#policies';

/** What a role may do, as the sidecar is told. */
export interface Projected {
  /** Canonical JSON. */
  readonly text: string;
  /** Whether any rule looks into TLS, so that the sandbox must trust the sidecar's CA. */
  readonly intercepts: boolean;
  /** Whether any rule grants an S3 datasource, so that programs are told where. */
  readonly reachesS3: boolean;
}

/** Roles, tenants and phases of one policy whose projections are kept; where there are more, all are made again. */
const KEPT_MAX = 1_024;
const kept = new WeakMap<PolicySet, Map<string, Projected>>();

/**
 * What a role may do for a tenant in a phase, as the sidecar is told. Made once for each policy: it is on the way to a program's
 * first byte. @throws {OutriderError} ROLE_DENIED where the policy has no such role
 */
export function projected(
  set: PolicySet,
  role: string,
  tenant: string,
  phase: Phase = 'run',
): Projected {
  const ofSet = kept.get(set) ?? new Map<string, Projected>();
  kept.set(set, ofSet);
  const key = JSON.stringify([role, tenant, phase]);
  const made = ofSet.get(key) ?? project(set, role, tenant, phase);
  if (ofSet.size >= KEPT_MAX) ofSet.clear();
  ofSet.set(key, made);
  return made;
}

function project(set: PolicySet, role: string, tenant: string, phase: Phase): Projected {
  if (!set.roles.has(role))
    throw new OutriderError('ROLE_DENIED', `the role ${role} is gone from the policy`);
  const projection = projectRole(set, role, tenant, phase);
  const rules = projection.policies.flatMap(({ allow }) => allow);
  return {
    text: canonicalJson(projection),
    intercepts: interceptedHosts(projection).length > 0,
    reachesS3: rules.some(({ datasource }) => datasource?.type === 's3'),
  };
}
