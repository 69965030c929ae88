import type {
  AllowRuleSpec,
  Boundary,
  DenyRuleSpec,
  EgressPolicy,
  LimitsSpec,
  Metadata,
  Phase,
  PolicyDocuments,
  Subject,
} from './document.ts';
import type {
  AllowProjection,
  BoundaryProjection,
  DatasourceRef,
  DenyProjection,
  Guard,
  Limits,
  PolicyProjection,
} from './projection.ts';
import { DEFAULT_PORT, isDatasourceType } from './target.ts';
import { bytesOf, durationMsOf, endOfDayMs, rateOf } from './units.ts';

/** The policies of a phase whose subjects name the role, or the tenant, or both; with every default spelled out. */
export function projectPolicies(
  documents: PolicyDocuments,
  role: string,
  tenant: string,
  phase: Phase,
): PolicyProjection[] {
  const expiries = expiriesOf(documents);
  return documents.egressPolicies
    .filter(({ spec }) => (spec.phase ?? 'run') === phase)
    .filter(({ spec }) => spec.subjects.some((subject) => isSubject(subject, role, tenant)))
    .map((policy) => projectPolicy(expiries, policy))
    .toSorted((a, b) => (a.name < b.name ? -1 : 1));
}

/** Each policy for itself, for whomever it is. */
export function eachPolicy(
  documents: PolicyDocuments,
): ReadonlyMap<EgressPolicy, PolicyProjection> {
  const expiries = expiriesOf(documents);
  return new Map(
    documents.egressPolicies.map((policy) => [policy, projectPolicy(expiries, policy)]),
  );
}

export function boundaryProjection({ metadata, spec }: Boundary): BoundaryProjection {
  const { mayMethods } = spec;
  return {
    name: metadata.name,
    neverHosts: spec.neverHosts ?? [],
    neverCidrs: spec.neverCidrs ?? [],
    neverPorts: spec.neverPorts ?? [],
    mayHosts: spec.mayHosts ?? null,
    mayMethods: mayMethods === undefined || mayMethods === 'any' ? null : mayMethods,
    mayTunnel: spec.mayTunnel ?? true,
    mayPrivate: spec.mayPrivate ?? [],
  };
}

/** `prometheus/main`, taken apart; undefined where it is not of that form. */
export function parseDatasourceRef(text: string): DatasourceRef | undefined {
  const slash = text.indexOf('/');
  const [type, name] = [text.slice(0, slash), text.slice(slash + 1)];
  return slash > 0 && isDatasourceType(type) && name !== '' ? { type, name } : undefined;
}

export function limitsOf(spec: LimitsSpec = {}): Limits {
  const { rate, burst, concurrent, requestBytes, responseBytes, duration } = spec;
  const { rows, scanBytes, queryTime, range, step } = spec;
  return {
    ...(rate === undefined ? {} : { rate: rateOf(rate) }),
    ...(burst === undefined ? {} : { burst }),
    ...(concurrent === undefined ? {} : { concurrent }),
    ...(requestBytes === undefined ? {} : { requestBytes: bytesOf(requestBytes) }),
    ...(responseBytes === undefined ? {} : { responseBytes: bytesOf(responseBytes) }),
    ...(duration === undefined ? {} : { durationMs: durationMsOf(duration) }),
    ...(rows === undefined ? {} : { rows }),
    ...(scanBytes === undefined ? {} : { scanBytes: bytesOf(scanBytes) }),
    ...(queryTime === undefined ? {} : { queryTimeMs: durationMsOf(queryTime) }),
    ...(range === undefined ? {} : { rangeMs: durationMsOf(range) }),
    ...(step === undefined ? {} : { stepMs: durationMsOf(step) }),
  };
}

/** What the rule says about queries; what a type demands and the rule leaves out grants nothing. */
function guardOf(rule: AllowRuleSpec, ref: DatasourceRef | null): Guard | null {
  const { labels = {}, endpoints = 'any', tables = [], functions = [], settings = [] } = rule;
  const { prefixes = [], operations = [] } = rule;
  if (ref?.type === 'clickhouse') return { type: ref.type, tables, functions, settings };
  if (ref?.type === 's3') return { type: ref.type, prefixes, operations };
  const asks = rule.labels !== undefined || rule.endpoints !== undefined;
  return asks && (ref?.type === 'prometheus' || ref?.type === 'loki')
    ? { type: ref.type, labels, endpoints }
    : null;
}

export function isSubject(subject: Subject, role: string, tenant: string): boolean {
  if (subject.role === undefined && subject.tenant === undefined) return false;
  return (subject.role ?? role) === role && (subject.tenant ?? tenant) === tenant;
}

/** When what a rule may name expires, by kind and name. */
interface Expiries {
  readonly credentials: ReadonlyMap<string, number | null>;
  readonly datasources: ReadonlyMap<string, number | null>;
}

function expiriesOf({ credentialBindings, datasources }: PolicyDocuments): Expiries {
  return {
    credentials: new Map(
      credentialBindings.map(({ metadata }) => [metadata.name, expiryMs(metadata)]),
    ),
    datasources: new Map(
      datasources.map(({ metadata, spec }) => [
        `${spec.type}/${metadata.name}`,
        expiryMs(metadata),
      ]),
    ),
  };
}

function projectPolicy(expiries: Expiries, { metadata, spec }: EgressPolicy): PolicyProjection {
  return {
    name: metadata.name,
    expiresMs: expiryMs(metadata),
    // What has expired no longer opens anything, be it to report it.
    reportUntilMs:
      spec.mode === 'report'
        ? earliest([endOfDayMs(spec.until ?? '') ?? 0, expiryMs(metadata)])
        : null,
    allow: spec.allow.map((rule) => projectAllow(expiries, metadata, rule)),
    deny: (spec.deny ?? []).map(projectDeny),
  };
}

function projectAllow(
  { credentials, datasources }: Expiries,
  policy: Metadata,
  rule: AllowRuleSpec,
): AllowProjection {
  const scheme = rule.scheme ?? 'https';
  const datasource =
    rule.datasource === undefined ? null : (parseDatasourceRef(rule.datasource) ?? null);
  return {
    id: rule.id,
    expiresMs: earliest([
      expiryMs(policy),
      credentials.get(rule.credential ?? '') ?? null,
      datasources.get(rule.datasource ?? '') ?? null,
    ]),
    hosts: rule.hosts ?? [],
    cidrs: rule.cidrs ?? [],
    allowPrivate: rule.allowPrivate ?? false,
    datasource,
    scheme,
    ports: rule.ports ?? [DEFAULT_PORT[scheme]],
    // A datasource's own guard stands behind the rule; a tunnel has neither.
    methods: rule.methods ?? 'any',
    paths: rule.paths ?? 'any',
    query: rule.query ?? {},
    queryStrict: rule.queryStrict ?? false,
    protocols: rule.protocols ?? ['http1', 'http2'],
    credential: rule.credential ?? null,
    limits: limitsOf(rule.limits),
    guard: guardOf(rule, datasource),
  };
}

function projectDeny(rule: DenyRuleSpec): DenyProjection {
  return {
    id: rule.id,
    hosts: rule.hosts ?? null,
    cidrs: rule.cidrs ?? null,
    datasource:
      rule.datasource === undefined ? null : (parseDatasourceRef(rule.datasource) ?? null),
    ports: rule.ports ?? null,
    methods: rule.methods ?? 'any',
    paths: rule.paths ?? 'any',
  };
}

/** A date that the calendar does not have has passed. */
function expiryMs({ expires }: Metadata): number | null {
  return expires === undefined ? null : (endOfDayMs(expires) ?? 0);
}

function earliest(times: readonly (number | null)[]): number | null {
  const given = times.filter((time) => time !== null);
  return given.length === 0 ? null : Math.min(...given);
}
