import {
  type AllowRuleSpec,
  canonicalJson,
  compileRole,
  type DatasourceTarget,
  decide,
  inspectDatasource,
  missesOfAllow,
  type Phase,
  type PolicyDocuments,
  type PolicySet,
  projectRole,
  REASONS,
  type Reason,
  rateOf,
  requestTarget,
  rolePolicy,
  type Target,
} from '#policies';
import { decideCase, type Outcome } from './run-cases.ts';
import { asGrants, type Grant, grantOf } from './suggest-grant.ts';

/** Something that a program asked for and was refused, however often. */
export interface Refused<Source> {
  readonly role: string;
  readonly tenant: string;
  /** As `requestTarget` reads it. */
  readonly request: string;
  /** The reason that the record gives. */
  readonly reason: string;
  /** Where that is written down. */
  readonly sources: readonly Source[];
}

/** One rule that would allow exactly what some refused requests asked for. */
export interface SuggestedRule<Source> {
  readonly rule: AllowRuleSpec;
  readonly because: readonly Refused<Source>[];
  /** An existing rule, as `policy/id`, that misses one of the requests in one thing alone, and that thing. */
  readonly near: { readonly rule: string; readonly misses: string } | null;
}

/** The rules for one role, or for one role of a tenant where its policies name the tenant. */
export interface SuggestedPolicy<Source> {
  readonly role: string;
  readonly tenant: string | null;
  readonly rules: readonly SuggestedRule<Source>[];
}

/** A refused request that no rule is suggested for. */
export interface NotSuggested<Source> {
  readonly refused: Refused<Source>;
  /** `allowed`: the policy as it is allows it. `boundary`, `denied`: a Boundary or a deny rule forbids it. `other`: no rule would help. */
  readonly kind: 'allowed' | 'boundary' | 'denied' | 'other';
  readonly why: string;
}

export interface Suggestion<Source> {
  readonly policies: readonly SuggestedPolicy<Source>[];
  readonly not: readonly NotSuggested<Source>[];
}

/**
 * The rules that would have allowed what was refused, inside every Boundary: each names the very hosts, ports, methods and paths
 * that were asked for and nothing more, except that with `generalise` a segment of paths that had three values or more becomes
 * `*`. Queries are not looked at, since not every record has them. Decides as of any day, and as if nothing only reported.
 */
export function suggest<Source>(
  set: PolicySet,
  requests: readonly Refused<Source>[],
  { phase = 'run', generalise = false }: { readonly phase?: Phase; readonly generalise?: boolean },
): Suggestion<Source> {
  const not: NotSuggested<Source>[] = [];
  const wanted = new Map<string, Wanted<Source>[]>();
  for (const refused of requests) {
    const judged = judge(set, phase, refused);
    if ('kind' in judged) {
      not.push({ refused, ...judged });
      continue;
    }
    const tenant = namesTenant(set.documents, refused) ? refused.tenant : null;
    const key = JSON.stringify([refused.role, tenant]);
    wanted.set(key, [...(wanted.get(key) ?? []), { refused, tenant, ...judged }]);
  }
  const policies = [...wanted.values()].map((list) => policyOf(set, phase, list, generalise));
  return { policies, not };
}

interface Wanted<Source> {
  readonly refused: Refused<Source>;
  readonly tenant: string | null;
  readonly target: Target;
  readonly grant: Grant;
}

type Judged = { readonly target: Target; readonly grant: Grant };
type Excuse = Pick<NotSuggested<unknown>, 'kind' | 'why'>;

/** Refusals that another allow rule could have prevented. */
const MENDABLE: readonly Reason[] = [
  'host_not_allowed',
  'port_not_allowed',
  'ip_not_allowed',
  'scheme_not_allowed',
  'method_not_allowed',
  'path_not_allowed',
  'connect_not_allowed',
  'protocol_not_allowed',
  'alias_unknown',
  'no_policy',
];

/** What a rule would have to grant, or why none would help. */
function judge(set: PolicySet, phase: Phase, refused: Refused<unknown>): Judged | Excuse {
  const { role, tenant, request, reason } = refused;
  if (!set.roles.has(role)) return { kind: 'other', why: `there is no role "${role}"` };
  const canonical = requestTarget(request);
  if (!canonical.ok) return { kind: 'other', why: REASONS[canonical.reason].text };
  const { outcome } = decideCase(set, { role, tenant, phase }, request);
  // The audit's own reason comes first: what a policy did not refuse, a policy does not mend.
  if (!isMendable(reason) && !(outcome.verdict === 'deny' && outcome.rule !== null))
    return { kind: 'other', why: textOf(reason) };
  return (
    refusalOf(outcome) ??
    beyondBoundaries(set, refused, phase, canonical.target) ??
    grantIn(set, phase, refused, canonical.target)
  );
}

/** For a role without any policy, Boundaries are not even asked. */
function beyondBoundaries(
  set: PolicySet,
  { role, tenant }: Refused<unknown>,
  phase: Phase,
  target: Target,
): Excuse | undefined {
  const projection = projectRole(set, role, tenant, phase);
  if (projection.policies.length > 0) return undefined;
  const nothing = {
    name: '',
    expiresMs: null,
    reportUntilMs: null,
    allow: [],
    deny: [],
    budgets: [],
  };
  const policy = compileRole({ ...projection, expiresMs: null, policies: [nothing] });
  const decision = decide(policy, target, Number.NEGATIVE_INFINITY);
  return decision.verdict === 'deny' ? refusalOf(decision) : undefined;
}

function refusalOf(outcome: Outcome): Excuse | undefined {
  if (outcome.verdict === 'allow')
    return { kind: 'allowed', why: `${outcome.policy}/${outcome.rule} allows it` };
  const { policy, rule, reason } = outcome;
  if (rule?.startsWith('boundary:'))
    return { kind: 'boundary', why: `${rule} forbids it: ${textOf(reason)}` };
  if (rule !== null)
    return { kind: 'denied', why: `the deny rule ${policy ?? ''}/${rule} forbids it` };
  return isMendable(reason) ? undefined : { kind: 'other', why: textOf(reason) };
}

function grantIn(
  set: PolicySet,
  phase: Phase,
  refused: Refused<unknown>,
  target: Target,
): Judged | Excuse {
  const grant = grantOf(target);
  if (typeof grant === 'string') return { kind: 'other', why: grant };
  if (target.kind === 'datasource') return datasourceGrant(set, phase, refused, target, grant);
  const closed = set.documents.boundaries.find(({ spec }) => spec.mayTunnel === false);
  if (target.kind === 'tunnel' && closed)
    return {
      kind: 'boundary',
      why: `boundary:${closed.metadata.name} allows no opaque tunnels, and what would be asked for inside is not known`,
    };
  return { target, grant };
}

/** A grant of a datasource is bounded by the labels by which the role's other rules bound it. */
function datasourceGrant(
  set: PolicySet,
  phase: Phase,
  { role, tenant }: Refused<unknown>,
  target: DatasourceTarget,
  grant: Grant,
): Judged | Excuse {
  const { type, name } = target;
  if (!set.datasources.has(`${type}/${name}`))
    return { kind: 'other', why: `there is no Datasource ${type}/${name}` };
  if (type === 'clickhouse' || type === 's3')
    return { kind: 'other', why: `what may be asked of ${type} is for a person to say` };
  const guards = rolePolicy(set, role, tenant, phase).allow.flatMap(
    ({ source: { datasource, guard } }) =>
      datasource?.type === type && datasource.name === name ? [guard] : [],
  );
  const labels = guards.map((guard) => (guard && 'labels' in guard ? guard.labels : {}));
  const [bound = {}] = labels;
  if (labels.some((other) => canonicalJson(other) !== canonicalJson(bound)))
    return { kind: 'other', why: `the rules about ${type}/${name} demand different labels` };
  const call = { ...target, body: null, header: () => undefined };
  const inspection = inspectDatasource(null, {}, call);
  if (!inspection.ok && ['path_not_allowed', 'method_not_allowed'].includes(inspection.reason))
    return { kind: 'other', why: `no rule opens this of ${type}: ${textOf(inspection.reason)}` };
  return {
    target,
    grant: { ...grant, ...(Object.keys(bound).length > 0 ? { labels: bound } : {}) },
  };
}

/** Whether the role's policies tell this tenant from others: then so does what is suggested. */
function namesTenant(
  { egressPolicies }: PolicyDocuments,
  { role, tenant }: Refused<unknown>,
): boolean {
  const subjects = egressPolicies
    .flatMap(({ spec }) => spec.subjects)
    .filter((subject) => (subject.role ?? role) === role && (subject.tenant ?? tenant) === tenant);
  return subjects.length > 0 && subjects.every((subject) => subject.tenant === tenant);
}

function policyOf<Source>(
  set: PolicySet,
  phase: Phase,
  wanted: readonly Wanted<Source>[],
  generalise: boolean,
): SuggestedPolicy<Source> {
  const { role = '', tenant: anyTenant = '' } = wanted[0]?.refused ?? {};
  const { allow } = rolePolicy(set, role, anyTenant, phase);
  const limits = limitsOf(set.documents);
  const ids = new Set<string>();
  const rules = asGrants(wanted, generalise).map(({ id, grant, items }) => {
    const near = allow
      .flatMap((rule) =>
        items.map(({ target }) => ({
          rule,
          misses: missesOfAllow(rule, target, Number.NEGATIVE_INFINITY),
        })),
      )
      .find(({ misses }) => misses.length === 1 && !FAR.has(misses[0]?.dimension ?? 'host'));
    return {
      rule: { id: unique(id, ids), ...grant, ...limits },
      because: items.map(({ refused }) => refused),
      near: near
        ? {
            rule: `${near.rule.policy}/${near.rule.source.id}`,
            misses: near.misses[0]?.text ?? '',
          }
        : null,
    };
  });
  return { role, tenant: wanted[0]?.tenant ?? null, rules };
}

/** A rule for somewhere else is no neighbour. */
const FAR: ReadonlySet<string> = new Set(['host', 'address', 'datasource']);

/** What Boundaries demand of every rule, and nothing else. */
function limitsOf({ boundaries }: PolicyDocuments): Pick<AllowRuleSpec, 'limits'> {
  const rates = boundaries.flatMap(({ spec }) => spec.maxRate ?? []);
  const [rate] = rates.toSorted((a, b) => perMs(a) - perMs(b));
  return rate === undefined ? {} : { limits: { rate } };
}

function perMs(rate: string): number {
  const { count, perMs: time } = rateOf(rate);
  return count / time;
}

function unique(id: string, taken: Set<string>): string {
  let name = id;
  for (let number = 2; taken.has(name); number += 1) name = `${id.slice(0, 58)}-${number}`;
  taken.add(name);
  return name;
}

function isMendable(reason: string): boolean {
  return MENDABLE.some((known) => known === reason);
}

function textOf(reason: string): string {
  const known = Object.entries(REASONS).find(([name]) => name === reason);
  return known ? `${reason}: ${known[1].text}` : reason || 'no reason is recorded';
}
