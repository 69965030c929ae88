import { canonicalJson } from '../canonical-json.ts';
import type { PolicyChange } from '../change.ts';
import type { Boundary, BoundarySpec } from '../document.ts';
import { cidr, everythingAt, find, Layer, unionOfCidrs, withoutAddresses } from '../space/index.ts';
import { METHODS } from '../target.ts';
import { rateOf } from '../units.ts';

/** The ceilings of the organisation. A Boundary that is new or gone changes each of its fields. */
export function boundaryChanges(
  before: readonly Boundary[],
  after: readonly Boundary[],
): PolicyChange[] {
  const names = [...new Set([...before, ...after].map(({ metadata }) => metadata.name))];
  return names.flatMap((name) => {
    const [old, fresh] = [specOf(before, name), specOf(after, name)];
    return FIELDS.flatMap((field) => {
      const [a, b] = [old[field], fresh[field]];
      if (canonicalJson(a ?? null) === canonicalJson(b ?? null)) return [];
      const loosened = !isWithin(field, fresh, old);
      // The same in other words.
      if (!loosened && isWithin(field, old, fresh)) return [];
      return [ceilingChange(name, field, loosened, a, b)];
    });
  });
}

function specOf(boundaries: readonly Boundary[], name: string): BoundarySpec {
  return boundaries.find(({ metadata }) => metadata.name === name)?.spec ?? {};
}

function ceilingChange(
  boundary: string,
  field: keyof BoundarySpec,
  widening: boolean,
  before: unknown,
  after: unknown,
): PolicyChange {
  return {
    subject: { role: null, tenant: null },
    phase: null,
    change: 'boundary',
    widening,
    example: `Boundary ${boundary}: spec.${field}`,
    rule: boundary,
    policy: null,
    before: before === undefined ? null : canonicalJson(before),
    after: after === undefined ? null : canonicalJson(after),
  };
}

/** Whether what a field leaves open in one Boundary is open in the other. */
const WITHIN: {
  readonly [F in keyof BoundarySpec]-?: (inner: BoundarySpec, outer: BoundarySpec) => boolean;
} = {
  neverHosts: (inner, outer) => coversHosts(inner.neverHosts ?? [], outer.neverHosts ?? []),
  neverCidrs: (inner, outer) => coversCidrs(inner.neverCidrs ?? [], outer.neverCidrs ?? []),
  neverPorts: (inner, outer) => isSubset(outer.neverPorts ?? [], inner.neverPorts ?? []),
  mayHosts: (inner, outer) =>
    !outer.mayHosts ||
    (inner.mayHosts !== undefined && coversHosts(outer.mayHosts, inner.mayHosts)),
  mayMethods: (inner, outer) => isSubset(methods(inner), methods(outer)),
  mayTunnel: (inner, outer) => inner.mayTunnel === false || outer.mayTunnel !== false,
  mayPrivate: (inner, outer) => coversCidrs(outer.mayPrivate ?? [], inner.mayPrivate ?? []),
  mayLoopbackDatasources: (inner, outer) =>
    inner.mayLoopbackDatasources !== true || outer.mayLoopbackDatasources === true,
  maxRate: (inner, outer) => perMs(inner) <= perMs(outer),
  maxExpiryDays: (inner, outer) => days(inner) <= days(outer),
  requireTests: (inner, outer) => inner.requireTests === true || outer.requireTests !== true,
};

const FIELDS = Object.keys(WITHIN).filter(isField);

function isField(name: string): name is keyof BoundarySpec {
  return name in WITHIN;
}

function isWithin(field: keyof BoundarySpec, inner: BoundarySpec, outer: BoundarySpec): boolean {
  return WITHIN[field](inner, outer);
}

function coversHosts(outer: readonly string[], inner: readonly string[]): boolean {
  const layer = new Layer(outer.map((host) => ({ box: everythingAt(host) })));
  return inner.every((host) => !find(everythingAt(host), [{ layer }]));
}

function coversCidrs(outer: readonly string[], inner: readonly string[]): boolean {
  const sets = [inner, outer].map((list) => unionOfCidrs(list.map(cidr)));
  return withoutAddresses(sets[0] ?? [], sets[1] ?? []).length === 0;
}

function isSubset<T>(inner: readonly T[], outer: readonly T[]): boolean {
  return inner.every((item) => outer.includes(item));
}

function methods({ mayMethods = 'any' }: BoundarySpec): readonly string[] {
  return mayMethods === 'any' ? METHODS : mayMethods;
}

function perMs({ maxRate }: BoundarySpec): number {
  const rate = maxRate === undefined ? undefined : rateOf(maxRate);
  return rate ? rate.count / rate.perMs : Number.POSITIVE_INFINITY;
}

function days({ maxExpiryDays = Number.POSITIVE_INFINITY }: BoundarySpec): number {
  return maxExpiryDays;
}
