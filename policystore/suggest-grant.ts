import { type AllowRuleSpec, classifyIp, formatIp, type Method, type Target } from '#policies';

/** The fields of an allow rule that say what it is about. */
export type Grant = Omit<AllowRuleSpec, 'id' | 'limits' | 'credential'>;

/** What a rule that allows exactly this target says; text: why no rule can say it. */
export function grantOf(target: Target): Grant | string {
  if (target.kind === 'datasource') {
    const datasource = `${target.type}/${target.name}`;
    return withRequest({ datasource }, target.method, target.path.text);
  }
  const place = placeOf(target);
  if (target.kind === 'tunnel') {
    const ports = target.port === 443 ? {} : { ports: [target.port] };
    return { ...place, ...ports, protocols: ['tunnel'] };
  }
  if (target.protocol === 'grpc' || target.protocol === 'websocket')
    return `a rule for ${target.protocol} is for a person to write`;
  const http = target.scheme === 'http';
  return withRequest(
    {
      ...place,
      ...(http ? { scheme: target.scheme } : {}),
      ...(target.port === (http ? 80 : 443) ? {} : { ports: [target.port] }),
    },
    target.method,
    target.path.text,
  );
}

function placeOf({ host }: Exclude<Target, { kind: 'datasource' }>): Grant {
  if (!host.ip) return { hosts: [host.text] };
  const address = formatIp(host.ip);
  return {
    cidrs: [`${address}/${address.includes(':') ? 128 : 32}`],
    ...(classifyIp(host.ip) === 'private' ? { allowPrivate: true } : {}),
  };
}

function withRequest(place: Grant, method: Method, path: string): Grant | string {
  if (path.includes('%') || path.includes('*'))
    return 'the path has characters that stand for themselves in no pattern';
  return { ...place, methods: [method], paths: [path] };
}

/** A rule's worth of grants that were asked for one by one. */
export interface Grouped<Item> {
  readonly id: string;
  readonly grant: Grant;
  readonly items: readonly Item[];
}

/**
 * As few rules as there are different sets of methods, and places with the same paths: every combination that a rule allows was
 * asked for by some item. With `generalise`, a segment that had three values or more becomes `*` first.
 */
export function asGrants<Item extends { readonly grant: Grant }>(
  items: readonly Item[],
  generalise: boolean,
): Grouped<Item>[] {
  const byPlace = [
    ...groupBy(items, ({ grant }) => keyOf({ ...grant, methods: [], paths: [] })).values(),
  ];
  const groups = byPlace.flatMap((list) => byMethods(list, generalise));
  // Hosts of which exactly the same was asked share a rule.
  const shared = groupBy(groups, ({ grant }) =>
    keyOf({ ...grant, hosts: grant.hosts ? [] : undefined }),
  );
  return [...shared.values()].map((list) => {
    const [first] = list;
    const hosts = [...new Set(list.flatMap(({ grant }) => grant.hosts ?? []))].toSorted();
    const grant = { ...first?.grant, ...(hosts.length > 0 ? { hosts } : {}) };
    return { id: idOf(grant), grant, items: list.flatMap((one) => one.items) };
  });
}

interface Group<Item> {
  readonly grant: Grant;
  readonly items: readonly Item[];
}

/** Paths that were asked for with the same methods stand in one rule. */
function byMethods<Item extends { readonly grant: Grant }>(
  items: readonly Item[],
  generalise: boolean,
): Group<Item>[] {
  const [first] = items;
  if (!first || !Array.isArray(first.grant.paths))
    return first ? [{ grant: first.grant, items }] : [];
  const patterns = patternsOf(items, generalise);
  const methodsOf = (list: readonly Item[]) =>
    [...new Set(list.flatMap(({ grant }) => listOf(grant.methods)))].toSorted();
  const alike = groupBy([...patterns], ([, list]) => methodsOf(list).join());
  return [...alike.values()].map((list) => {
    const all = list.flatMap(([, one]) => one);
    const paths = list.map(([path]) => path).toSorted();
    return { grant: { ...first.grant, methods: methodsOf(all), paths }, items: all };
  });
}

/** The items by the path pattern that stands for them. */
function patternsOf<Item extends { readonly grant: Grant }>(
  items: readonly Item[],
  generalise: boolean,
): Map<string, readonly Item[]> {
  let byPath = groupBy(items, ({ grant }) => listOf(grant.paths)[0] ?? '');
  const next = () => (generalise ? widest([...byPath.keys()]) : undefined);
  for (let merged = next(); merged; merged = next()) {
    const { paths } = merged;
    const members = paths.flatMap((path) => byPath.get(path) ?? []);
    byPath = new Map([...byPath].filter(([path]) => !paths.includes(path)));
    byPath.set(merged.pattern, [...(byPath.get(merged.pattern) ?? []), ...members]);
  }
  return byPath;
}

const VALUES_MIN = 3;

/** The most paths that differ in one segment alone; undefined where no three do. */
function widest(
  paths: readonly string[],
): { readonly pattern: string; readonly paths: readonly string[] } | undefined {
  const families = new Map<string, string[]>();
  for (const path of paths) {
    const segments = path.split('/');
    for (const [at, segment] of segments.entries()) {
      if (segment === '' || segment === '*') continue;
      const pattern = segments.with(at, '*').join('/');
      families.set(pattern, [...(families.get(pattern) ?? []), path]);
    }
  }
  const [best] = [...families].toSorted(([, a], [, b]) => b.length - a.length);
  return best && best[1].length >= VALUES_MIN ? { pattern: best[0], paths: best[1] } : undefined;
}

/** A name for the rule, from the place that it is about. */
function idOf({ hosts, cidrs, datasource, scheme, protocols }: Grant): string {
  const place = datasource ?? hosts?.[0] ?? `net-${cidrs?.[0] ?? ''}`;
  const kind = protocols?.includes('tunnel') ? '-tunnel' : scheme === 'http' ? '-http' : '';
  const name = place.replace(/[^a-z0-9]+/g, '-').replace(/^-|-$/g, '');
  return `${/^[a-z]/.test(name) ? '' : 'host-'}${name.slice(0, 50)}${kind}`;
}

function listOf<T>(value: 'any' | readonly T[] | undefined): readonly T[] {
  return value === undefined || value === 'any' ? [] : value;
}

function keyOf(fields: object): string {
  return JSON.stringify(Object.entries(fields).toSorted(([a], [b]) => (a < b ? -1 : 1)));
}

function groupBy<T>(items: readonly T[], keyOfItem: (item: T) => string): Map<string, T[]> {
  const groups = new Map<string, T[]>();
  for (const item of items) {
    const key = keyOfItem(item);
    const group = groups.get(key);
    if (group) group.push(item);
    else groups.set(key, [item]);
  }
  return groups;
}
