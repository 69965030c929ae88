import { OutriderError } from '#core/errors';
import { type Budget, budgetsOf } from './budget.ts';
import { checkDocuments } from './check.ts';
import type {
  CredentialBinding,
  Datasource,
  DatasourceType,
  Phase,
  PolicyDocuments,
  Role,
} from './document.ts';
import { formatDocumentPath, type PolicyProblem } from './problem.ts';
import { boundaryProjection, projectPolicies } from './project.ts';
import type { RoleProjection } from './projection.ts';
import { type Boundary, compileBoundary, compileRole, type RolePolicy } from './role-policy.ts';
import { endOfDayMs } from './units.ts';

/** Every document of a directory or bundle, checked against each other. Immutable; a reload makes another. */
export interface PolicySet {
  /** SHA-256 over the canonical JSON of all documents, lower-case hex; made by policystore. */
  readonly digest: string;
  readonly documents: PolicyDocuments;
  readonly roles: ReadonlyMap<string, Role>;
  readonly credentials: ReadonlyMap<string, CredentialBinding>;
  /** By `<type>/<name>`. */
  readonly datasources: ReadonlyMap<string, Datasource>;
  readonly boundaries: readonly Boundary[];
  /** By the names of their policies. */
  readonly budgets: ReadonlyMap<string, readonly Budget[]>;
}

/**
 * Checks documents that have the schema's shape against each other and makes a set of them. `nowMs` is for a Boundary's
 * `maxExpiryDays` alone, which time that passes cannot break; without it `expires` must be there and may be any day.
 * @throws {OutriderError} POLICY_INVALID with every problem at once, one a line; its cause is the list of `PolicyProblem`
 */
export function compilePolicySet(
  documents: PolicyDocuments,
  digest: string,
  nowMs?: number,
): PolicySet {
  const problems = checkDocuments(documents, nowMs);
  if (problems.length > 0) throw policyInvalid(problems);
  return {
    digest,
    documents,
    roles: new Map(documents.roles.map((role) => [role.metadata.name, role])),
    credentials: new Map(documents.credentialBindings.map((item) => [item.metadata.name, item])),
    datasources: new Map(
      documents.datasources.map((item) => [`${item.spec.type}/${item.metadata.name}`, item]),
    ),
    boundaries: documents.boundaries.map((item) => compileBoundary(boundaryProjection(item))),
    budgets: new Map(documents.egressPolicies.map((item) => [item.metadata.name, budgetsOf(item)])),
  };
}

/** One line a problem, as `EgressPolicy report-builder: spec.allow[0].hosts[0]: ...`. */
function policyInvalid(problems: readonly PolicyProblem[]): OutriderError {
  const lines = problems.map(
    ({ kind, name, path, message }) => `${kind} ${name}: ${formatDocumentPath(path)}: ${message}`,
  );
  return new OutriderError('POLICY_INVALID', lines.join('\n'), { cause: problems });
}

export function datasourceOf(
  set: PolicySet,
  type: DatasourceType,
  name: string,
): Datasource | undefined {
  return set.datasources.get(`${type}/${name}`);
}

export function credentialOf(set: PolicySet, name: string): CredentialBinding | undefined {
  return set.credentials.get(name);
}

/**
 * The role's part of a set for one tenant in one phase: what a sidecar decides with. A role that the set does not have gets a
 * projection without policies, which denies everything; so does one that may install nothing, in the phase `install`.
 */
export function projectRole(
  set: PolicySet,
  roleName: string,
  tenant: string,
  phase: Phase = 'run',
): RoleProjection {
  const role = set.roles.get(roleName);
  const has = role && (phase === 'run' || mayInstall(role));
  return {
    version: 1,
    role: roleName,
    tenant,
    expiresMs:
      role?.metadata.expires === undefined ? null : (endOfDayMs(role.metadata.expires) ?? 0),
    boundaries: set.documents.boundaries.map(boundaryProjection),
    policies: has ? projectPolicies(set.documents, roleName, tenant, phase) : [],
  };
}

/** Whether the role's sandboxes may have anything installed. */
export function mayInstall(role: Role): boolean {
  return role.spec.sandbox.dependencies !== undefined;
}

/** `compileRole(projectRole(...))`, kept for as long as the set is. */
export function rolePolicy(
  set: PolicySet,
  roleName: string,
  tenant: string,
  phase: Phase = 'run',
): RolePolicy {
  let compiled = COMPILED.get(set);
  if (!compiled) COMPILED.set(set, (compiled = new Map()));
  // Either name may be any text: the length says where the first one ends.
  const key = `${phase} ${roleName.length} ${roleName} ${tenant}`;
  let policy = compiled.get(key);
  if (!policy) {
    // Tenants come from tokens: a set does not remember more of them than it can hold.
    if (compiled.size >= COMPILED_MAX) compiled.clear();
    compiled.set(key, (policy = compileRole(projectRole(set, roleName, tenant, phase))));
  }
  return policy;
}

const COMPILED_MAX = 1000;
const COMPILED = new WeakMap<PolicySet, Map<string, RolePolicy>>();
