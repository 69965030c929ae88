import type {
  AllowRuleSpec,
  DenyRuleSpec,
  EgressPolicy,
  Method,
  PolicyDocuments,
  Subject,
} from './document.ts';
import { formatCidr, maskIp, parseCidr } from './ip.ts';
import type { DocumentPath } from './problem.ts';
import { DEFAULT_PORT } from './target.ts';

/** Documents with one small mistake in them, such as a reviewer might overlook. They need not be sound. */
export interface Mutant {
  /** For people: `report-builder/gh-read: methods GET, HEAD become any`. */
  readonly change: string;
  /** The EgressPolicy, by its place in the list of the documents, and where in it. */
  readonly index: number;
  readonly path: DocumentPath;
  readonly documents: PolicyDocuments;
}

/**
 * Every mutant of a set: each rule left out; each host, range, method, path, port and pattern of a query left out, narrowed and
 * widened; each credential left out and exchanged; each condition of a deny rule left out; each subject left out, or of any tenant.
 * Limits are not changed: no case of a PolicyTest sees them.
 */
export function* mutants(documents: PolicyDocuments): Generator<Mutant> {
  const credentials = documents.credentialBindings.map(({ metadata }) => metadata.name);
  for (const [index, policy] of documents.egressPolicies.entries()) {
    const { name } = policy.metadata;
    for (const { what, path, spec } of changesOf(policy, credentials)) {
      const egressPolicies = documents.egressPolicies.with(index, { ...policy, spec });
      yield { change: `${name}${what}`, index, path, documents: { ...documents, egressPolicies } };
    }
  }
}

type Spec = EgressPolicy['spec'];

interface SpecChange {
  readonly what: string;
  readonly path: DocumentPath;
  readonly spec: Spec;
}

function* changesOf({ spec }: EgressPolicy, credentials: readonly string[]): Generator<SpecChange> {
  for (const [at, rule] of spec.allow.entries()) {
    const path = ['spec', 'allow', at];
    const allow = spec.allow.toSpliced(at, 1);
    yield { what: `/${rule.id}: left out`, path, spec: { ...spec, allow } };
    for (const { what, field, rule: changed } of allowChanges(rule, credentials))
      yield {
        what: `/${rule.id}: ${what}`,
        path: [...path, field],
        spec: { ...spec, allow: spec.allow.with(at, changed) },
      };
  }
  const denials = spec.deny ?? [];
  for (const [at, rule] of denials.entries()) {
    const path = ['spec', 'deny', at];
    yield {
      what: `/${rule.id}: left out`,
      path,
      spec: { ...spec, deny: denials.toSpliced(at, 1) },
    };
    for (const { what, field, rule: changed } of denyChanges(rule))
      yield {
        what: `/${rule.id}: ${what}`,
        path: [...path, field],
        spec: { ...spec, deny: denials.with(at, changed) },
      };
  }
  for (const [at, subject] of spec.subjects.entries())
    for (const [what, subjects] of subjectChanges(spec.subjects, at, subject))
      yield { what: `: ${what}`, path: ['spec', 'subjects', at], spec: { ...spec, subjects } };
}

function* subjectChanges(
  subjects: readonly Subject[],
  at: number,
  { role, tenant }: Subject,
): Generator<readonly [string, readonly Subject[]]> {
  const text = [role, tenant].filter((part) => part !== undefined).join(' of ');
  if (subjects.length > 1) yield [`the subject ${text} left out`, subjects.toSpliced(at, 1)];
  if (role !== undefined && tenant !== undefined)
    yield [`the subject ${text} becomes ${role} of any tenant`, subjects.with(at, { role })];
}

interface RuleChange<R> {
  readonly what: string;
  readonly field: string;
  readonly rule: R;
}

function* allowChanges(
  rule: AllowRuleSpec,
  credentials: readonly string[],
): Generator<RuleChange<AllowRuleSpec>> {
  for (const [what, hosts] of listChanges('hosts', rule.hosts, otherHosts))
    yield { what, field: 'hosts', rule: { ...rule, hosts } };
  for (const [what, cidrs] of listChanges('cidrs', rule.cidrs, otherRanges))
    yield { what, field: 'cidrs', rule: { ...rule, cidrs } };
  for (const [what, methods] of methodChanges(rule.methods))
    yield { what, field: 'methods', rule: { ...rule, methods } };
  for (const [what, paths] of pathChanges(rule.paths))
    yield { what, field: 'paths', rule: { ...rule, paths } };
  if (!rule.datasource)
    for (const [what, ports] of portChanges(rule))
      yield { what, field: 'ports', rule: { ...rule, ports } };
  yield* queryChanges(rule);
  yield* guardChanges(rule);
  yield* protocolChanges(rule);
  yield* credentialChanges(rule, credentials);
}

/** A deny rule that names less at once refuses more, and one whose lists are shorter refuses less. */
function* denyChanges(rule: DenyRuleSpec): Generator<RuleChange<DenyRuleSpec>> {
  for (const [what, hosts] of listChanges('hosts', rule.hosts, otherHosts))
    yield { what, field: 'hosts', rule: { ...rule, hosts } };
  for (const [what, cidrs] of listChanges('cidrs', rule.cidrs, otherRanges))
    yield { what, field: 'cidrs', rule: { ...rule, cidrs } };
  for (const [what, methods] of methodChanges(rule.methods))
    yield { what, field: 'methods', rule: { ...rule, methods } };
  for (const [what, paths] of pathChanges(rule.paths))
    yield { what, field: 'paths', rule: { ...rule, paths } };
  for (const [what, ports] of listChanges('ports', rule.ports, () => []))
    yield { what, field: 'ports', rule: { ...rule, ports } };
  const { id, ...conditions } = rule;
  const fields = Object.keys(conditions);
  for (const field of fields) {
    if (fields.length === 1) break;
    const fewer = Object.fromEntries(Object.entries(conditions).filter(([key]) => key !== field));
    yield { what: `without its ${field}`, field, rule: { id, ...fewer } };
  }
}

/** A list without each entry, and with each in place of what `others` makes of it. */
function* listChanges<T extends string | number>(
  field: string,
  list: readonly T[] | undefined,
  others: (entry: T) => readonly (readonly T[])[],
): Generator<readonly [string, readonly T[]]> {
  for (const [at, entry] of (list ?? []).entries()) {
    if (list === undefined) return;
    if (list.length > 1) yield [`${field} without ${entry}`, list.toSpliced(at, 1)];
    for (const instead of others(entry)) {
      const changed = [...new Set(list.toSpliced(at, 1, ...instead))];
      yield [`${field}: ${entry} becomes ${instead.join(' and ')}`, changed];
    }
  }
}

/** A sibling's parent, everything beneath, one name in place of all. */
function otherHosts(host: string): string[][] {
  if (!host.startsWith('*.')) {
    const parent = host.slice(host.indexOf('.') + 1);
    return [[host, `*.${host}`], ...(parent.includes('.') ? [[`*.${parent}`]] : [])];
  }
  const name = host.slice(2);
  const parent = name.slice(name.indexOf('.') + 1);
  return [[host, name], ...(parent.includes('.') ? [[`*.${parent}`]] : [])];
}

function otherRanges(text: string): string[][] {
  const cidr = parseCidr(text);
  if (!cidr || cidr.bits === 0) return [];
  const bits = cidr.bits - 1;
  return [[formatCidr({ base: maskIp(cidr.base, bits), bits })]];
}

const WRITING: readonly Method[] = ['POST', 'PUT', 'PATCH', 'DELETE'];

function* methodChanges(
  methods: 'any' | readonly Method[] | undefined,
): Generator<readonly [string, 'any' | readonly Method[]]> {
  if (methods === undefined) return;
  if (methods === 'any') {
    yield ['methods any become GET', ['GET']];
    return;
  }
  yield [`methods ${methods.join(', ')} become any`, 'any'];
  const more = WRITING.find((method) => !methods.includes(method));
  if (more) yield [`methods with ${more}`, [...methods, more]];
  for (const method of methods)
    if (methods.length > 1)
      yield [`methods without ${method}`, methods.filter((other) => other !== method)];
}

function* pathChanges(
  paths: 'any' | readonly string[] | undefined,
): Generator<readonly [string, 'any' | readonly string[]]> {
  if (paths === undefined) return;
  if (paths === 'any') {
    yield ['paths any become /', ['/']];
    return;
  }
  yield [`paths ${paths.join(', ')} become any`, 'any'];
  yield* listChanges('paths', paths, otherPaths);
}

/** One segment less before `**`, a segment that may be any, one that may be nothing else, everything beneath. */
function otherPaths(path: string): string[][] {
  const segments = path.slice(1).split('/');
  const text = (list: readonly string[]) => `/${list.join('/')}`;
  if (segments.at(-1) === '**') {
    const fixed = segments.slice(0, -1);
    const wider = fixed.length > 0 ? [[text([...fixed.slice(0, -1), '**'])]] : [];
    return [...wider, [text([...fixed, '*'])]];
  }
  return [
    [text([...segments, '**'])],
    ...segments.flatMap((segment, at) => {
      if (segment === '') return [];
      return [[text(segments.with(at, segment === '*' ? 'only-this' : '*'))]];
    }),
  ];
}

function* portChanges({
  ports,
  scheme = 'https',
}: AllowRuleSpec): Generator<readonly [string, readonly number[]]> {
  const given = ports ?? [DEFAULT_PORT[scheme]];
  const more = [8443, 8444].find((port) => !given.includes(port)) ?? 1;
  yield [`ports with ${more}`, [...given, more]];
  yield* listChanges('ports', given, () => []);
}

/** A pattern that every letter of which patterns can speak fits. */
const ANY_VALUE = '[A-Za-z0-9_~,:/@=.+ -]*';

function* queryChanges(rule: AllowRuleSpec): Generator<RuleChange<AllowRuleSpec>> {
  const { query = {}, queryStrict, ...rest } = rule;
  const strict = queryStrict === undefined ? {} : { queryStrict };
  if (queryStrict === true)
    yield { what: 'without queryStrict', field: 'queryStrict', rule: { ...rest, query } };
  for (const name of Object.keys(query)) {
    const wide = { ...query, [name]: ANY_VALUE };
    yield {
      what: `query: any ${name}`,
      field: 'query',
      rule: { ...rest, ...strict, query: wide },
    };
    const fewer = Object.fromEntries(Object.entries(query).filter(([key]) => key !== name));
    if (Object.keys(fewer).length > 0 || queryStrict !== true)
      yield {
        what: `query without ${name}`,
        field: 'query',
        rule: { ...rest, ...strict, ...(Object.keys(fewer).length > 0 ? { query: fewer } : {}) },
      };
  }
}

/** What bounds the words of queries: each bound left out, and every table, function, key and operation that may be used. */
function* guardChanges(rule: AllowRuleSpec): Generator<RuleChange<AllowRuleSpec>> {
  const { labels = {}, tables, prefixes } = rule;
  for (const name of Object.keys(labels)) {
    const fewer = Object.fromEntries(Object.entries(labels).filter(([key]) => key !== name));
    const { labels: _, ...rest } = rule;
    yield {
      what: `labels without ${name}`,
      field: 'labels',
      rule: Object.keys(fewer).length > 0 ? { ...rule, labels: fewer } : rest,
    };
  }
  for (const field of ['tables', 'prefixes'] as const) {
    const list = field === 'tables' ? tables : prefixes;
    if (list === undefined || list === 'any') continue;
    yield {
      what: `${field} ${list.join(', ')} become any`,
      field,
      rule: { ...rule, [field]: 'any' },
    };
    for (const [what, fewer] of listChanges(
      field,
      list,
      field === 'tables' ? otherTables : otherKeys,
    ))
      yield { what, field, rule: { ...rule, [field]: fewer } };
  }
  for (const field of ['endpoints', 'functions', 'settings', 'operations'] as const) {
    if (rule[field] === undefined) continue;
    const { [field]: _, ...rest } = rule;
    yield { what: `without its ${field}`, field, rule: rest };
    for (const [what, fewer] of listChanges<string>(field, rule[field], () => []))
      yield { what, field, rule: { ...rule, [field]: fewer } };
  }
}

/** Every table of the database, in place of one. */
function otherTables(table: string): string[][] {
  const [database] = table.split('.');
  return table.endsWith('.*') ? [] : [[`${database}.*`]];
}

/** The prefix above. */
function otherKeys(prefix: string): string[][] {
  const above = prefix.replace(/[^/]*\/?$/, '');
  return above === '' ? [] : [[above]];
}

function* protocolChanges(rule: AllowRuleSpec): Generator<RuleChange<AllowRuleSpec>> {
  const { protocols, ...rest } = rule;
  if (protocols === undefined || protocols.includes('tunnel')) return;
  yield {
    what: `protocols ${protocols.join(', ')} become the usual`,
    field: 'protocols',
    rule: rest,
  };
  for (const [what, changed] of listChanges('protocols', protocols, () => []))
    yield { what, field: 'protocols', rule: { ...rest, protocols: changed } };
}

function* credentialChanges(
  rule: AllowRuleSpec,
  credentials: readonly string[],
): Generator<RuleChange<AllowRuleSpec>> {
  const { credential, ...rest } = rule;
  if (credential === undefined) return;
  yield { what: `without the credential ${credential}`, field: 'credential', rule: rest };
  for (const other of credentials)
    if (other !== credential)
      yield {
        what: `the credential ${credential} becomes ${other}`,
        field: 'credential',
        rule: { ...rest, credential: other },
      };
}
