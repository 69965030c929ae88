import { canonicalJson } from '../canonical-json.ts';
import type { ChangeKind, PolicyChange } from '../change.ts';
import type {
  BudgetSpec,
  CredentialBinding,
  Datasource,
  EgressPolicy,
  PolicyDocument,
} from '../document.ts';
import type { PolicySet } from '../policy-set.ts';
import { everythingAt, find, Layer, pathPatterns } from '../space/index.ts';
import { bytesOf, endOfDayMs } from '../units.ts';

/** Dates, report mode, budgets, secrets and endpoints: what a rule leans on without saying it. */
export function documentChanges(before: PolicySet, after: PolicySet): PolicyChange[] {
  const [old, fresh] = [before.documents, after.documents];
  return [
    ...pairs(old.egressPolicies, fresh.egressPolicies).flatMap(policyChanges),
    ...pairs(old.roles, fresh.roles).flatMap(expiryChanges),
    ...pairs(old.credentialBindings, fresh.credentialBindings).flatMap((pair) => [
      ...expiryChanges(pair),
      ...bindingChanges(pair),
    ]),
    ...pairs(old.datasources, fresh.datasources).flatMap((pair) => [
      ...expiryChanges(pair),
      ...datasourceChanges(pair),
    ]),
  ];
}

interface Pair<D extends PolicyDocument> {
  readonly name: string;
  readonly before: D | undefined;
  readonly after: D | undefined;
}

function pairs<D extends PolicyDocument>(before: readonly D[], after: readonly D[]): Pair<D>[] {
  const [old, fresh] = [before, after].map(
    (list) => new Map(list.map((one) => [nameOf(one), one])),
  );
  const names = [...new Set([...before, ...after].map(nameOf))];
  return names.map((name) => ({ name, before: old?.get(name), after: fresh?.get(name) }));
}

function nameOf(document: PolicyDocument): string {
  const { name } = document.metadata;
  return document.kind === 'Datasource' ? `${document.spec.type}/${name}` : name;
}

function change(
  document: PolicyDocument,
  field: string,
  rest: Pick<PolicyChange, 'change' | 'widening' | 'before' | 'after'>,
): PolicyChange {
  const name = nameOf(document);
  return {
    subject: { role: document.kind === 'Role' ? name : null, tenant: null },
    phase: document.kind === 'EgressPolicy' ? (document.spec.phase ?? 'run') : null,
    example: `${document.kind} ${name}: ${field}`,
    rule: document.kind === 'EgressPolicy' ? null : name,
    policy: document.kind === 'EgressPolicy' ? name : null,
    ...rest,
  };
}

/** A document that is new or gone is told by what it allows. */
function expiryChanges<D extends PolicyDocument>({ before, after }: Pair<D>): PolicyChange[] {
  if (!before || !after) return [];
  const [a, b] = [before.metadata.expires, after.metadata.expires];
  if (a === b) return [];
  const widening = lastMs(b) > lastMs(a);
  const texts = { before: a ?? null, after: b ?? null };
  return [change(after, 'metadata.expires', { change: 'expiry', widening, ...texts })];
}

function lastMs(day: string | undefined): number {
  return day === undefined ? Number.POSITIVE_INFINITY : (endOfDayMs(day) ?? 0);
}

function policyChanges(pair: Pair<EgressPolicy>): PolicyChange[] {
  const { before, after } = pair;
  const document = after ?? before;
  if (!document) return [];
  const changes = [
    ...expiryChanges(pair),
    ...modeChanges(document, before, after),
    ...budgetChanges(document, before?.spec.budgets ?? [], after?.spec.budgets ?? []),
  ];
  return document.spec.subjects.flatMap(({ role = null, tenant = null }) =>
    changes.map((one) => ({ ...one, subject: { role, tenant } })),
  );
}

/** While a policy only reports, its subjects may reach whatever is public: until later is more. */
function modeChanges(
  document: EgressPolicy,
  before: EgressPolicy | undefined,
  after: EgressPolicy | undefined,
): PolicyChange[] {
  const [a, b] = [reportsUntilMs(before), reportsUntilMs(after)];
  if (a === b) return [];
  const texts = { before: modeText(before), after: modeText(after) };
  return [change(document, 'spec.mode', { change: 'mode', widening: b > a, ...texts })];
}

function reportsUntilMs(policy: EgressPolicy | undefined): number {
  if (policy?.spec.mode !== 'report') return Number.NEGATIVE_INFINITY;
  // What has expired lets nothing through any more.
  return Math.min(lastMs(policy.spec.until), lastMs(policy.metadata.expires));
}

function modeText(policy: EgressPolicy | undefined): string | null {
  if (!policy) return null;
  const { mode, until } = policy.spec;
  return mode === 'report' ? `report until ${until}` : mode;
}

function budgetChanges(
  document: EgressPolicy,
  before: readonly BudgetSpec[],
  after: readonly BudgetSpec[],
): PolicyChange[] {
  const ids = [...new Set([...before, ...after].map(({ id }) => id))];
  return ids.flatMap((id) => {
    const [a, b] = [before, after].map((list) => list.find((budget) => budget.id === id));
    const texts = { before: budgetText(a), after: budgetText(b) };
    if (texts.before === texts.after) return [];
    return [
      change(document, `spec.budgets ${id}`, {
        change: 'budgets',
        widening: leavesMore(a, b),
        ...texts,
      }),
    ];
  });
}

function budgetText(budget: BudgetSpec | undefined): string | null {
  if (!budget) return null;
  const { per, requests, bytes } = budget;
  const amounts = { per: per.toSorted(), requests, bytes: bytes && bytesOf(bytes) };
  return canonicalJson(amounts);
}

function leavesMore(before: BudgetSpec | undefined, after: BudgetSpec | undefined): boolean {
  if (!after) return true;
  if (!before) return false;
  if (canonicalJson(before.per.toSorted()) !== canonicalJson(after.per.toSorted())) return true;
  const amount = (value: number | undefined) => value ?? Number.POSITIVE_INFINITY;
  const bytes = ({ bytes: value }: BudgetSpec) =>
    amount(value === undefined ? value : bytesOf(value));
  return amount(after.requests) > amount(before.requests) || bytes(after) > bytes(before);
}

function bindingChanges({ before, after }: Pair<CredentialBinding>): PolicyChange[] {
  if (!before || !after) return [];
  const [old, fresh] = [before.spec, after.spec];
  const differs = (field: keyof CredentialBinding['spec'], widening: boolean) =>
    canonicalJson(old[field] ?? null) === canonicalJson(fresh[field] ?? null)
      ? []
      : [fieldChange(after, 'binding', field, widening, old[field], fresh[field])];
  const strips = (spec: CredentialBinding['spec']) => spec.stripClient ?? [];
  return [
    // Another secret, or another way to use it, may open what the first did not.
    ...differs('secretRef', true),
    ...differs('inject', true),
    ...differs('hosts', !isWithin(after, before)),
    ...differs('paths', !isWithin(after, before)),
    ...differs('stripClient', !strips(old).every((header) => strips(fresh).includes(header))),
    ...differs('onReject401', fresh.onReject401 === 'refreshOnce'),
    ...differs('redact', fresh.redact === false),
  ];
}

function isWithin(inner: CredentialBinding, outer: CredentialBinding): boolean {
  const [a, b] = [inner, outer].map(({ spec: { hosts, paths = 'any' } }) =>
    hosts.flatMap((host) => pathPatterns(paths).map((path) => ({ ...everythingAt(host), path }))),
  );
  const layer = new Layer((b ?? []).map((box) => ({ box })));
  return (a ?? []).every((box) => !find(box, [{ layer }]));
}

function datasourceChanges({ before, after }: Pair<Datasource>): PolicyChange[] {
  if (!before || !after) return [];
  return (['endpoint', 'auth', 'secretRef', 'allowPrivate', 'allowLoopback'] as const).flatMap(
    (field) => {
      const [a, b] = [before.spec[field] ?? false, after.spec[field] ?? false];
      // Another place or another secret may hold more; a word taken back opens nothing.
      return canonicalJson(a) === canonicalJson(b)
        ? []
        : [
            fieldChange(
              after,
              'datasource',
              field,
              b !== false,
              before.spec[field],
              after.spec[field],
            ),
          ];
    },
  );
}

function fieldChange(
  document: PolicyDocument,
  kind: ChangeKind,
  field: string,
  widening: boolean,
  before: unknown,
  after: unknown,
): PolicyChange {
  const text = (value: unknown) =>
    value === undefined ? null : typeof value === 'string' ? value : canonicalJson(value);
  const texts = { before: text(before), after: text(after) };
  return change(document, `spec.${field}`, { change: kind, widening, ...texts });
}
