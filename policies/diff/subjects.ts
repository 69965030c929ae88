import { canonicalJson } from '../canonical-json.ts';
import type { PolicyChange, RequestChange } from '../change.ts';
import type { EgressPolicy, Phase } from '../document.ts';
import { mayInstall, type PolicySet } from '../policy-set.ts';
import { boundaryProjection, eachPolicy, isSubject } from '../project.ts';
import type { BoundaryProjection, PolicyProjection } from '../projection.ts';
import { type Region, regionOf } from '../space/index.ts';
import { requestChanges } from './requests.ts';

/** What changes for the requests of every role, in every tenant that its policies name and in any other, in both phases. */
export function subjectChanges(before: PolicySet, after: PolicySet): PolicyChange[] {
  const sides = [new Side(before), new Side(after)] as const;
  const roles = [...new Set([...before.roles.keys(), ...after.roles.keys()])].toSorted();
  // Many roles have the same policies.
  const compared = new Map<string, RequestChange[]>();
  const compare = (old: readonly EgressPolicy[], fresh: readonly EgressPolicy[]) => {
    const key = `${namesOf(old)} > ${namesOf(fresh)}`;
    let changes = compared.get(key);
    if (!changes) {
      changes = requestChanges(sides[0].regionOf(old), sides[1].regionOf(fresh));
      compared.set(key, changes);
    }
    return changes;
  };
  const changes: PolicyChange[] = [];
  for (const phase of ['run', 'install'] as const) {
    for (const role of roles) {
      const told = new Set<string>();
      const [old, fresh] = [sides[0].policiesOf(role, phase), sides[1].policiesOf(role, phase)];
      for (const tenant of [null, ...tenantsOf([...old, ...fresh], role)]) {
        for (const change of compare(inTenant(old, role, tenant), inTenant(fresh, role, tenant))) {
          const key = canonicalJson(change);
          // What holds in every tenant was told for every tenant.
          if (!told.has(key)) changes.push({ subject: { role, tenant }, phase, ...change });
          told.add(key);
        }
      }
    }
  }
  return changes;
}

/** A set, with its policies by whom they are for. */
class Side {
  readonly #set: PolicySet;
  readonly #projections: ReadonlyMap<EgressPolicy, PolicyProjection>;
  readonly #boundaries: readonly BoundaryProjection[];
  /** By role; null: those with a subject that names none. */
  readonly #byRole = new Map<string | null, Set<EgressPolicy>>();
  readonly #regions = new Map<string, Region>();

  constructor(set: PolicySet) {
    this.#set = set;
    this.#projections = eachPolicy(set.documents);
    this.#boundaries = set.documents.boundaries.map(boundaryProjection);
    for (const policy of set.documents.egressPolicies) {
      for (const { role = null } of policy.spec.subjects) {
        const policies = this.#byRole.get(role);
        if (policies) policies.add(policy);
        else this.#byRole.set(role, new Set([policy]));
      }
    }
  }

  /** The policies that the role has in some tenant. */
  policiesOf(role: string, phase: Phase): EgressPolicy[] {
    const document = this.#set.roles.get(role);
    if (!document || (phase === 'install' && !mayInstall(document))) return [];
    const policies = [role, null].flatMap((name) => [...(this.#byRole.get(name) ?? [])]);
    return [...new Set(policies)].filter(({ spec }) => (spec.phase ?? 'run') === phase);
  }

  regionOf(policies: readonly EgressPolicy[]): Region {
    const key = namesOf(policies);
    let region = this.#regions.get(key);
    if (!region) {
      const projections = policies.flatMap((policy) => this.#projections.get(policy) ?? []);
      region = regionOf(projections, projections, this.#boundaries);
      this.#regions.set(key, region);
    }
    return region;
  }
}

/** A tenant of null is one that no policy names. */
function inTenant(
  policies: readonly EgressPolicy[],
  role: string,
  tenant: string | null,
): EgressPolicy[] {
  return policies.filter(({ spec }) =>
    spec.subjects.some(
      (subject) =>
        (subject.tenant === undefined || subject.tenant === tenant) &&
        isSubject(subject, role, tenant ?? ''),
    ),
  );
}

function tenantsOf(policies: readonly EgressPolicy[], role: string): Set<string> {
  return new Set(
    policies.flatMap(({ spec }) =>
      spec.subjects.flatMap((subject) =>
        (subject.role ?? role) === role ? (subject.tenant ?? []) : [],
      ),
    ),
  );
}

/** A name is unique among policies. */
function namesOf(policies: readonly EgressPolicy[]): string {
  return policies
    .map(({ metadata }) => metadata.name)
    .toSorted()
    .join(' ');
}
