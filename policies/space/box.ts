import type { Scheme } from '../document.ts';
import { type HostPattern, hostCovers, parseHostPattern } from '../host-pattern.ts';
import { type Cidr, parseCidr } from '../ip.ts';
import { type PathPattern, parsePathPattern } from '../path-pattern.ts';
import type { AllowProjection, DatasourceRef, DenyProjection } from '../projection.ts';
import { parseQueryPattern, type QueryPattern } from '../query-pattern.ts';
import { type ActionSet, actionSet, EVERY_ACTION, OPAQUE } from './actions.ts';
import {
  type AddressSet,
  commonAddresses,
  unionOfCidrs,
  WRITABLE,
  WRITABLE_PUBLIC,
} from './address-set.ts';
import { commonPattern } from './path-trie.ts';
import { common, commonQuery, type QueryCondition } from './query-space.ts';

/**
 * A set of requests that is a product: one condition for each dimension, and all of them hold. A rule is a union of boxes, one
 * for each of its places and paths. An opaque tunnel is a request of its own kind, without path and query.
 */
export interface Box {
  readonly place: Place;
  /** null: both. */
  readonly scheme: Scheme | null;
  /** null: every port. */
  readonly ports: ReadonlySet<number> | null;
  readonly actions: ActionSet;
  readonly path: PathPattern;
  /** null: every query. */
  readonly query: QueryCondition | null;
  /** The addresses that the request goes to; null: every one. */
  readonly addresses: AddressSet | null;
}

/** Where requests go: to names, to an address that stands in the request, or to a datasource. */
export type Place =
  /** A `pattern` of null: every name. */
  | { readonly kind: 'name'; readonly pattern: HostPattern | null }
  /** `bits` of the range that the rule names, where it names one: the narrower goes first. */
  | { readonly kind: 'address'; readonly bits: number | null }
  /** `<type>/<name>`; null: every datasource. */
  | { readonly kind: 'datasource'; readonly key: string | null };

/** `/**`. */
const EVERY_PATH: PathPattern = { text: '/**', segments: [], open: true };

/** The requests that an allow rule names. A rule with `protocols: [tunnel]` names none. */
export function allowBoxes(rule: AllowProjection): Box[] {
  if (rule.protocols.includes('tunnel')) return [];
  return product(allowPlaces(rule), pathPatterns(rule.paths), {
    ...wireOf(rule),
    actions: actionSet(rule.methods, rule.protocols),
    query: queryCondition(rule),
  });
}

/** The tunnels that an allow rule is about: to pass on as they are, or, where it looks at requests, to look into. */
export function tunnelBoxes(rule: AllowProjection): Box[] {
  if (rule.datasource || rule.scheme !== 'https') return [];
  return product(allowPlaces(rule), [EVERY_PATH], { ...wireOf(rule), ...TUNNEL });
}

/** Every request and every tunnel. */
export const EVERYTHING: Omit<Box, 'place'> = {
  scheme: null,
  ports: null,
  actions: EVERY_ACTION | OPAQUE,
  path: EVERY_PATH,
  query: null,
  addresses: null,
};

/** All of it to some hosts. */
export function everythingAt(host: string): Box {
  return { ...EVERYTHING, place: { kind: 'name', pattern: hostPattern(host) } };
}

/** What a deny rule says, whatever it is called. */
export type DenyConditions = Omit<DenyProjection, 'id'>;

/** The requests that a deny rule names: what it does not say does not narrow it. */
export function denyBoxes(rule: DenyConditions): Box[] {
  return product(denyPlaces(rule), pathPatterns(rule.paths), {
    scheme: null,
    ports: rule.ports && new Set(rule.ports),
    actions: actionSet(rule.methods),
    query: null,
  });
}

/** The opaque tunnels that a deny rule refuses: in them nobody sees method and path, so they do not count. */
export function denyTunnelBoxes(rule: DenyConditions): Box[] {
  return denyBoxes({ ...rule, methods: 'any', paths: 'any' })
    .filter(({ place }) => place.kind !== 'datasource')
    .map((box) => ({ ...box, ...TUNNEL }));
}

const TUNNEL = { actions: OPAQUE, query: null } as const;

function wireOf({ datasource, scheme, ports }: AllowProjection): Pick<Box, 'scheme' | 'ports'> {
  return datasource ? { scheme: null, ports: null } : { scheme, ports: new Set(ports) };
}

type Where = Pick<Box, 'place' | 'addresses'>;

/** A rule opens of its ranges what any rule does: public addresses, and by its own word private ones. */
function allowPlaces({ datasource, cidrs, hosts, allowPrivate }: AllowProjection): Where[] {
  if (datasource) return [datasourcePlace(datasource)];
  const possible = allowPrivate ? WRITABLE : WRITABLE_PUBLIC;
  const ranges = cidrs.map(cidr).map((range) => ({
    place: { kind: 'address' as const, bits: range.bits },
    addresses: commonAddresses(unionOfCidrs([range]), possible.ranges),
  }));
  return [...ranges, ...hosts.map((text) => namePlace(text, null))];
}

function denyPlaces({ hosts, cidrs, ports, datasource }: DenyConditions): Where[] {
  if (datasource) return [datasourcePlace(datasource)];
  const addresses = cidrs && unionOfCidrs(cidrs.map(cidr));
  if (hosts) return hosts.map((text) => namePlace(text, addresses));
  const anyHost: Where[] = [
    { place: { kind: 'name', pattern: null }, addresses },
    { place: { kind: 'address', bits: null }, addresses },
  ];
  // A datasource has neither address nor port that a rule could see.
  return cidrs || ports
    ? anyHost
    : [...anyHost, { place: { kind: 'datasource', key: null }, addresses: null }];
}

function namePlace(text: string, addresses: AddressSet | null): Where {
  return { place: { kind: 'name', pattern: hostPattern(text) }, addresses };
}

function datasourcePlace({ type, name }: DatasourceRef): Where {
  return { place: { kind: 'datasource', key: `${type}/${name}` }, addresses: null };
}

function product(
  places: readonly Where[],
  paths: readonly PathPattern[],
  rest: Omit<Box, 'place' | 'addresses' | 'path'>,
): Box[] {
  return places.flatMap((where) => paths.map((path) => ({ ...where, path, ...rest })));
}

/** The requests that are in both; undefined where there are none, as far as two dimensions alone show. */
export function commonBox(a: Box, b: Box): Box | undefined {
  const actions = a.actions & b.actions;
  const place = actions === 0 ? undefined : commonPlace(a.place, b.place);
  const path = place && commonPattern(a.path, b.path);
  if (!place || !path) return undefined;
  if (a.scheme !== null && b.scheme !== null && a.scheme !== b.scheme) return undefined;
  const ports = a.ports && b.ports ? common(a.ports, b.ports) : (a.ports ?? b.ports);
  const addresses =
    a.addresses && b.addresses
      ? commonAddresses(a.addresses, b.addresses)
      : (a.addresses ?? b.addresses);
  if (ports?.size === 0 || addresses?.length === 0) return undefined;
  const query = commonQuery(a.query, b.query);
  return { place, scheme: a.scheme ?? b.scheme, ports, actions, path, query, addresses };
}

function commonPlace(a: Place, b: Place): Place | undefined {
  if (a.kind === 'datasource' && b.kind === 'datasource') {
    return a.key === null || a.key === b.key ? b : b.key === null ? a : undefined;
  }
  if (a.kind === 'name' && b.kind === 'name') {
    if (a.pattern === null || b.pattern === null) return a.pattern ? a : b;
    return hostCovers(a.pattern, b.pattern) ? b : hostCovers(b.pattern, a.pattern) ? a : undefined;
  }
  return a.kind === 'address' && b.kind === 'address' ? a : undefined;
}

function queryCondition({ query, queryStrict }: AllowProjection): QueryCondition | null {
  const names = Object.entries(query);
  if (names.length === 0 && !queryStrict) return null;
  return {
    wanted: new Map(names.map(([name, text]) => [name, [queryPattern(text)]])),
    only: queryStrict ? new Set(names.map(([name]) => name)) : null,
  };
}

export function pathPatterns(paths: 'any' | readonly string[]): readonly PathPattern[] {
  return paths === 'any' ? [EVERY_PATH] : paths.map((text) => parsed(text, parsePathPattern(text)));
}

export function hostPattern(text: string): HostPattern {
  return parsed(text, parseHostPattern(text));
}

export function cidr(text: string): Cidr {
  return parsed(text, parseCidr(text) ?? 'not a range');
}

function queryPattern(text: string): QueryPattern {
  return parsed(text, parseQueryPattern(text));
}

/** Patterns of documents were checked before anybody reasons about them. */
function parsed<T extends object>(text: string, result: T | string): T {
  if (typeof result === 'string') throw new Error(`unreachable: ${text} was checked (${result})`);
  return result;
}
