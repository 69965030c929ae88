import type { Checked, Report } from './checked.ts';
import type { AllowRuleSpec, DatasourceType, EgressPolicy } from './document.ts';
import { type PathPattern, parsePathPattern } from './path-pattern.ts';
import type { DocumentPath } from './problem.ts';
import { parseDatasourceRef } from './project.ts';
import { commonPattern } from './space/index.ts';

/** Fields about the queries of a datasource, with the types that know them. */
const FIELDS = {
  labels: ['prometheus', 'loki'],
  endpoints: ['prometheus', 'loki'],
  tables: ['clickhouse'],
  functions: ['clickhouse'],
  settings: ['clickhouse'],
  prefixes: ['s3'],
  operations: ['s3'],
} as const satisfies Partial<Record<keyof AllowRuleSpec, readonly DatasourceType[]>>;

const LIMITS = {
  range: ['prometheus', 'loki'],
  step: ['prometheus', 'loki'],
  queryTime: ['prometheus', 'clickhouse'],
  rows: ['clickhouse'],
  scanBytes: ['clickhouse'],
} as const satisfies Partial<
  Record<keyof NonNullable<AllowRuleSpec['limits']>, readonly DatasourceType[]>
>;

const FIELD_LIST = Object.entries(FIELDS);
const LIMIT_LIST = Object.entries(LIMITS);

/** What such a rule must say, since it would grant nothing without it. */
const REQUIRED: Readonly<Partial<Record<DatasourceType, readonly (keyof typeof FIELDS)[]>>> = {
  clickhouse: ['tables'],
  s3: ['prefixes', 'operations'],
};

const LOKI_PARTS = ['query', 'series', 'labels', 'stats'];

/** The fields of one rule that are about a datasource's queries. */
export function checkGuard(rule: AllowRuleSpec, path: DocumentPath, report: Report): void {
  const type =
    rule.datasource === undefined ? undefined : parseDatasourceRef(rule.datasource)?.type;
  for (const [field, types] of FIELD_LIST)
    if (Object.hasOwn(rule, field)) checkType(type, types, [...path, field], report);
  for (const [field, types] of rule.limits ? LIMIT_LIST : [])
    if (Object.hasOwn(rule.limits ?? {}, field))
      checkType(type, types, [...path, 'limits', field], report);
  for (const field of (type && REQUIRED[type]) ?? []) {
    if (rule[field] === undefined)
      report([...path, 'datasource'], `say which ${field} the rule grants: a list, or \`any\``);
  }
  if (type === 'loki' && rule.endpoints?.some((one) => !LOKI_PARTS.includes(one)))
    report([...path, 'endpoints'], `loki has ${LOKI_PARTS.join(', ')} alone`);
  if (type === 'prometheus' && rule.endpoints?.includes('stats'))
    report([...path, 'endpoints'], 'prometheus has no endpoints "stats"');
}

function checkType(
  type: DatasourceType | undefined,
  types: readonly DatasourceType[],
  path: DocumentPath,
  report: Report,
): void {
  if (type && types.includes(type)) return;
  report(path, `this is about the queries of ${types.join(' or ')}, which the rule does not name`);
}

interface Grant {
  readonly policy: Checked<EgressPolicy>;
  readonly rule: AllowRuleSpec;
  /** null: any. */
  readonly paths: readonly PathPattern[] | null;
  /** What it asks of queries, as text to compare. */
  readonly asks: string;
}

/**
 * A query is held against one rule alone, so where two rules of one subject grant the same requests of a datasource they must ask
 * the same of its queries: otherwise it would take the order of rules to know what is granted.
 */
export function checkGuardOverlaps(policies: readonly Checked<EgressPolicy>[]): void {
  const byDatasource = new Map<string, Grants>();
  for (const policy of policies) {
    for (const [index, rule] of policy.document.spec.allow.entries()) {
      if (rule.datasource === undefined) continue;
      let grants = byDatasource.get(rule.datasource);
      if (!grants) byDatasource.set(rule.datasource, (grants = new Grants()));
      const grant = grantOf(policy, rule);
      const other = grants.disagreeing(grant);
      grants.add(grant);
      if (other)
        policy.report(
          ['spec', 'allow', index, 'id'],
          `"${other.rule.id}" of "${other.policy.document.metadata.name}" grants the same requests of ${rule.datasource} and asks something else of their queries: make them one rule, or give them different paths`,
        );
    }
  }
}

/** Grants by what they ask. */
type ByAsks = Map<string, Grant[]>;

/** The grants of one datasource by how their paths begin, since only those that begin alike can meet. */
class Grants {
  readonly #all: ByAsks = new Map();
  readonly #anyhow: ByAsks = new Map();
  readonly #byFirst = new Map<string, ByAsks>();

  add(grant: Grant): void {
    file(this.#all, grant);
    for (const first of beginningsOf(grant)) {
      const near = first === null ? this.#anyhow : (this.#byFirst.get(first) ?? new Map());
      if (first !== null) this.#byFirst.set(first, near);
      file(near, grant);
    }
  }

  /** One that grants some of the same requests and asks something else. */
  disagreeing(grant: Grant): Grant | undefined {
    for (const first of beginningsOf(grant)) {
      const near = first === null ? [this.#all] : [this.#byFirst.get(first), this.#anyhow];
      for (const [asks, grants] of near.flatMap((lists) => [...(lists ?? [])])) {
        const other = asks === grant.asks ? undefined : grants.find((one) => meets(one, grant));
        if (other) return other;
      }
    }
    return undefined;
  }
}

function file(lists: ByAsks, grant: Grant): void {
  const list = lists.get(grant.asks);
  if (list) list.push(grant);
  else lists.set(grant.asks, [grant]);
}

/** The first segments of its paths; null: any. */
function beginningsOf({ paths }: Grant): readonly (string | null)[] {
  return [...new Set(paths?.map(({ segments }) => segments[0] ?? null) ?? [null])];
}

function grantOf(policy: Checked<EgressPolicy>, rule: AllowRuleSpec): Grant {
  const { paths = 'any', limits } = rule;
  const of = (from: object | undefined, names: readonly (readonly [string, unknown])[]) => {
    const values = new Map<string, unknown>(Object.entries(from ?? {}));
    return names.map(([name]) => values.get(name) ?? null);
  };
  return {
    policy,
    rule,
    paths:
      paths === 'any'
        ? null
        : paths.map(parsePathPattern).filter((one): one is PathPattern => typeof one !== 'string'),
    asks: JSON.stringify([of(rule, FIELD_LIST), of(limits, LIMIT_LIST)]),
  };
}

function meets(a: Grant, b: Grant): boolean {
  const [left, right] = [a.policy.document.spec, b.policy.document.spec];
  if ((left.phase ?? 'run') !== (right.phase ?? 'run')) return false;
  const sameSubject = left.subjects.some((one) =>
    right.subjects.some(
      (other) =>
        (one.role === undefined || other.role === undefined || one.role === other.role) &&
        (one.tenant === undefined || other.tenant === undefined || one.tenant === other.tenant),
    ),
  );
  return sameSubject && sharesMethod(a.rule, b.rule) && sharesPath(a, b);
}

function sharesMethod(
  { methods: a = 'any' }: AllowRuleSpec,
  { methods: b = 'any' }: AllowRuleSpec,
): boolean {
  return a === 'any' || b === 'any' || a.some((method) => b.includes(method));
}

function sharesPath({ paths: a }: Grant, { paths: b }: Grant): boolean {
  if (!a || !b) return true;
  return a.some((one) => b.some((other) => commonPattern(one, other) !== undefined));
}
