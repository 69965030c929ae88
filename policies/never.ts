import { EVERY_HOST } from './check-never.ts';
import type { NeverSpec, PolicyTest } from './document.ts';
import { type PolicySet, projectRole } from './policy-set.ts';
import type { DocumentPath } from './problem.ts';
import { parseDatasourceRef } from './project.ts';
import {
  type Box,
  commonBox,
  type DenyConditions,
  denyBoxes,
  denyTunnelBoxes,
  find,
  type Grants,
  regionOf,
  type Witness,
} from './space/index.ts';

/** A `never` clause that does not hold. */
export interface NeverViolation {
  readonly path: DocumentPath;
  /** Names a request that is allowed, and the rule that allows it. */
  readonly message: string;
  readonly example: Witness;
}

/**
 * The `never` clauses of a test that do not hold, each with a request that shows it. Nothing is sampled: a clause without a
 * violation is a proof. As cases are, so is this about policies before anything expires and with report mode as if it enforced.
 */
export function neverViolations(set: PolicySet, test: PolicyTest): NeverViolation[] {
  const { as, never = [] } = test.spec;
  if (never.length === 0) return [];
  const { policies, boundaries } = projectRole(set, as.role, as.tenant ?? '', as.phase);
  const region = regionOf(policies, policies, boundaries);
  return never.flatMap((clause, index) => {
    const conditions = conditionsOf(clause);
    const found =
      allowed(region.requests, boxesOf(clause, denyBoxes(conditions))) ??
      allowed(region.tunnels, boxesOf(clause, denyTunnelBoxes(conditions)));
    if (!found) return [];
    const { example, rule, policy } = found;
    const where =
      example.resolve === undefined ? '' : `, should the name lead to ${example.resolve}`;
    const message = `"${example.request}" is allowed by the rule "${rule}" of the policy "${policy}"${where}`;
    return [{ path: ['spec', 'never', index], message, example }];
  });
}

function conditionsOf({
  hosts,
  cidrs,
  datasource,
  methods,
  paths,
  ports,
}: NeverSpec): DenyConditions {
  return {
    hosts: hosts && !hosts.includes(EVERY_HOST) ? hosts : null,
    cidrs: cidrs ?? null,
    datasource: datasource === undefined ? null : (parseDatasourceRef(datasource) ?? null),
    methods: methods ?? 'any',
    paths: paths ?? 'any',
    ports: ports ?? null,
  };
}

function boxesOf({ hosts }: NeverSpec, boxes: readonly Box[]): readonly Box[] {
  return hosts ? boxes.filter(({ place }) => place.kind !== 'datasource') : boxes;
}

interface Allowed {
  readonly example: Witness;
  readonly rule: string;
  readonly policy: string;
}

/** A request of some boxes that a grant allows and no deny rule refuses. */
function allowed(grants: Grants, boxes: readonly Box[]): Allowed | undefined {
  for (const box of boxes) {
    // A clause with ranges is also about what a name leads to.
    const resolved = box.addresses !== null;
    for (const { box: granted, rule, policy } of grants.layer.meeting(box)) {
      const both = commonBox(granted, box);
      const example = both && find(both, grants.avoided, resolved);
      if (example) return { example, rule: rule.id, policy };
    }
  }
  return undefined;
}
