import { canonicalJson } from '../canonical-json.ts';
import type { ChangeKind, PolicyChange } from '../change.ts';
import type { DependenciesSpec, Member, Role, SandboxSpec, Tier, ToolSpec } from '../document.ts';
import type { PolicySet } from '../policy-set.ts';
import { coversTool } from '../tool-spec.ts';
import { bytesOf, durationMsOf } from '../units.ts';

/** Who has a role, with which tools, in which sandbox. What a role may reach is not said here. */
export function roleChanges(before: PolicySet, after: PolicySet): PolicyChange[] {
  const names = [...new Set([...before.roles.keys(), ...after.roles.keys()])];
  return names.flatMap((name) => {
    const [old, fresh] = [before.roles.get(name), after.roles.get(name)];
    return [
      ...memberChanges(name, old?.spec.members ?? [], fresh?.spec.members ?? []),
      ...toolChanges(name, old?.spec.tools ?? [], fresh?.spec.tools ?? []),
      ...(old && fresh ? sandboxChanges(name, old, fresh) : []),
    ];
  });
}

function change(
  role: string,
  kind: ChangeKind,
  field: string,
  widening: boolean,
  before: string | null,
  after: string | null,
): PolicyChange {
  return {
    subject: { role, tenant: null },
    phase: null,
    change: kind,
    widening,
    example: `Role ${role}: ${field}`,
    rule: role,
    policy: null,
    before,
    after,
  };
}

function memberChanges(
  role: string,
  before: readonly Member[],
  after: readonly Member[],
): PolicyChange[] {
  const added = after.filter((member) => !before.some((wide) => covers(wide, member)));
  const gone = before.filter((member) => !after.some((wide) => covers(wide, member)));
  return [
    ...added.map((member) =>
      change(role, 'members', 'spec.members', true, null, canonicalJson(member)),
    ),
    ...gone.map((member) =>
      change(role, 'members', 'spec.members', false, canonicalJson(member), null),
    ),
  ];
}

/** Whether whoever is the one member is the other as well: the wider one asks for nothing that the narrower does not. */
function covers(wide: Member, narrow: Member): boolean {
  const { claim: wideClaim = {}, ...wideRest } = wide;
  const { claim: narrowClaim = {}, ...narrowRest } = narrow;
  return holds(wideRest, narrowRest) && holds(wideClaim, narrowClaim);
}

function holds(
  wanted: Readonly<Record<string, string | undefined>>,
  given: Readonly<Record<string, string | undefined>>,
): boolean {
  return Object.entries(wanted).every(
    ([name, value]) => value === undefined || given[name] === value,
  );
}

type Tools = 'any' | readonly ToolSpec[];

/** What may be called now and could not be before, and the reverse. */
function toolChanges(role: string, before: Tools, after: Tools): PolicyChange[] {
  const [added, gone] = [beyond(after, before), beyond(before, after)];
  return [
    ...(added === '' ? [] : [change(role, 'tools', 'spec.tools', true, null, added)]),
    ...(gone === '' ? [] : [change(role, 'tools', 'spec.tools', false, gone, null)]),
  ];
}

/** Those of the one that the other does not cover. */
function beyond(tools: Tools, others: Tools): string {
  if (others === 'any') return '';
  if (tools === 'any') return 'any';
  return tools
    .filter((tool) => !others.some((wide) => coversTool(wide, tool)))
    .map((tool) =>
      typeof tool === 'string' ? tool : `${tool.name} ${canonicalJson(tool.arguments)}`,
    )
    .join(', ');
}

function sandboxChanges(role: string, { spec: old }: Role, { spec: fresh }: Role): PolicyChange[] {
  const [before, after] = [old.sandbox, fresh.sandbox];
  const sandbox = (field: string, widening: boolean, a: unknown, b: unknown) =>
    change(role, 'sandbox', `spec.sandbox.${field}`, widening, textOf(a), textOf(b));
  const amounts = Object.entries(AMOUNTS).flatMap(([field, amountOf]) => {
    const [a, b] = [amountOf(before), amountOf(after)];
    if (a === b) return [];
    // What a role does not say is the runner's to choose, so nobody knows which is more.
    return [sandbox(field, a === undefined || b === undefined || b > a, a, b)];
  });
  const tiers = [TIERS.indexOf(before.minimumTier), TIERS.indexOf(after.minimumTier)] as const;
  const tier =
    tiers[0] === tiers[1]
      ? []
      : [sandbox('minimumTier', tiers[1] < tiers[0], before.minimumTier, after.minimumTier)];
  const lists = (['profiles', 'images'] as const).flatMap((field) => {
    const [a, b] = [before[field], after[field]];
    const widening = !a || !b || b.some((word) => !a.includes(word));
    return sameWords(a, b) ? [] : [sandbox(field, widening, a, b)];
  });
  const [a, b] = [before.dependencies, after.dependencies];
  const dependencies =
    canonicalJson(a ?? null) === canonicalJson(b ?? null)
      ? []
      : [sandbox('dependencies', mayInstallMore(a, b), a, b)];
  return [...amounts, ...tier, ...lists, ...dependencies];
}

const bytes = (value: SandboxSpec['memory']) => (value === undefined ? undefined : bytesOf(value));
const time = (value: SandboxSpec['timeout']) =>
  value === undefined ? undefined : durationMsOf(value);

/** The larger the more is possible; in bytes and milliseconds. */
const AMOUNTS: Readonly<Record<string, (sandbox: SandboxSpec) => number | undefined>> = {
  memory: ({ memory }) => bytes(memory),
  cpus: ({ cpus }) => cpus,
  pids: ({ pids }) => pids,
  disk: ({ disk }) => bytes(disk),
  output: ({ output }) => bytes(output),
  timeout: ({ timeout }) => time(timeout),
  concurrent: ({ concurrent }) => concurrent,
  sessions: ({ sessions }) => sessions,
  sessionIdle: ({ sessionIdle }) => time(sessionIdle),
  sessionMax: ({ sessionMax }) => time(sessionMax),
};

/** From the weakest. */
const TIERS: readonly (Tier | undefined)[] = [undefined, 'namespaces', 'container', 'gvisor'];

function sameWords(a: readonly string[] | undefined, b: readonly string[] | undefined): boolean {
  const set = (words: readonly string[] | undefined) =>
    words ? [...new Set(words)].toSorted((x, y) => (x < y ? -1 : 1)) : null;
  return canonicalJson(set(a)) === canonicalJson(set(b));
}

function mayInstallMore(
  before: DependenciesSpec | undefined,
  after: DependenciesSpec | undefined,
): boolean {
  if (!after) return false;
  if (!before) return true;
  const within = (inner: readonly string[], outer: readonly string[]) =>
    inner.every((name) => outer.some((wide) => coversName(wide, name)));
  return !(
    within(after.managers, before.managers) &&
    (before.allow === undefined ||
      (after.allow !== undefined && within(after.allow, before.allow))) &&
    within(before.block ?? [], after.block ?? [])
  );
}

function coversName(wide: string, name: string): boolean {
  return wide === name || (wide.endsWith('*') && name.startsWith(wide.slice(0, -1)));
}

function textOf(value: unknown): string | null {
  if (value === undefined) return null;
  return typeof value === 'string' ? value : canonicalJson(value);
}
