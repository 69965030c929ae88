import { CidrIndex } from './cidr-index.ts';
import type { Protocol, Scheme } from './document.ts';
import { HostIndex } from './host-index.ts';
import { classifyIp } from './ip-class.ts';
import { isAlive, isUsable, queryFits, speaks } from './match.ts';
import { hasMethod } from './method-set.ts';
import { PathIndex } from './path-index.ts';
import type { Reason } from './reason.ts';
import type { AllowRule } from './rule.ts';
import type { DatasourceTarget, HostTarget, Target, TunnelTarget } from './target.ts';

/** The allow rules of a role by what they name, so that finding one does not depend on how many there are. */
export class AllowIndex {
  readonly #byHost: HostIndex<AllowBucket>;
  readonly #byAddress: CidrIndex<AllowBucket>;
  /** Those that may reach private addresses. */
  readonly #byPrivateAddress: CidrIndex<AllowBucket>;
  readonly #byDatasource: ReadonlyMap<string, ReadonlyMap<string, AllowBucket>>;

  /** `rules` stand in order of precedence. */
  constructor(rules: readonly AllowRule[]) {
    const file = (items: readonly AllowRule[]): AllowBucket => new AllowBucket(items);
    const ranges = rules.flatMap((rule) => rule.cidrs.map((cidr) => [cidr, rule] as const));
    this.#byHost = HostIndex.of(
      rules.flatMap((rule) => rule.hosts.map((pattern) => [pattern, rule] as const)),
      file,
    );
    this.#byAddress = CidrIndex.of(ranges, file);
    this.#byPrivateAddress = CidrIndex.of(
      ranges.filter(([, { source }]) => source.allowPrivate),
      file,
    );
    this.#byDatasource = byDatasource(rules, ({ source }) => source.datasource, file);
  }

  /**
   * The rule that allows `target`. A rule that looks at requests goes before an opaque tunnel, then one with a credential, then
   * the more specific host, range or name, then the order of the rules.
   */
  find(target: Target, nowMs: number): AllowRule | undefined {
    let best: AllowRule | undefined;
    for (const bucket of this.#naming(target)) {
      const rule = bucket.find(target, nowMs);
      if (rule && (best === undefined || goesBefore(rule, best))) best = rule;
    }
    return best;
  }

  /** Why the rule that fits best does not allow `target`, which no rule does. */
  refusal(target: Target, nowMs: number): Reason {
    let nearest = unnamedReason(target);
    if (lacksWord(this.#byAddress, target)) nearest = 'ip_forbidden_class';
    for (const bucket of this.#naming(target))
      nearest = nearerOf(nearest, bucket.refusal(target, nowMs));
    return nearest;
  }

  /** What the rules that look at requests may be spoken to in, at this host, port and scheme. */
  spoken(target: TunnelTarget, scheme: Scheme): ReadonlySet<Protocol> {
    return new Set(this.#naming(target).flatMap((bucket) => bucket.spoken(target.port, scheme)));
  }

  #naming(target: Target): readonly AllowBucket[] {
    if (target.kind === 'datasource') {
      const bucket = this.#byDatasource.get(target.type)?.get(target.name);
      return bucket ? [bucket] : [];
    }
    const { ip, text } = target.host;
    if (ip === null) return this.#byHost.naming(text);
    const isPrivate = classifyIp(ip) === 'private';
    return (isPrivate ? this.#byPrivateAddress : this.#byAddress).holding(ip);
  }
}

/** Files rules by type and name of what they name; those that name nothing are left out. */
export function byDatasource<R, B>(
  rules: readonly R[],
  refOf: (rule: R) => { readonly type: string; readonly name: string } | null,
  file: (rules: readonly R[]) => B,
): ReadonlyMap<string, ReadonlyMap<string, B>> {
  const groups = new Map<string, Map<string, R[]>>();
  for (const rule of rules) {
    const ref = refOf(rule);
    if (!ref) continue;
    let names = groups.get(ref.type);
    if (!names) groups.set(ref.type, (names = new Map()));
    const group = names.get(ref.name);
    if (group) group.push(rule);
    else names.set(ref.name, [rule]);
  }
  return new Map(
    [...groups].map(([type, names]) => [
      type,
      new Map([...names].map(([name, group]) => [name, file(group)])),
    ]),
  );
}

/** Why a target is refused that no rule names. */
export function unnamedReason(target: Target): Reason {
  if (target.kind === 'datasource') return 'alias_unknown';
  return target.host.ip ? 'ip_not_allowed' : 'host_not_allowed';
}

/** Within a bucket the order stands already; between buckets only these two count. */
function goesBefore(rule: AllowRule, best: AllowRule): boolean {
  if (rule.tunnel !== best.tunnel) return best.tunnel;
  return rule.source.credential !== null && best.source.credential === null;
}

/** Whether a rule names this private address without the word that it takes. */
function lacksWord(byAddress: CidrIndex<AllowBucket>, target: Target): boolean {
  if (target.kind === 'datasource' || target.host.ip === null) return false;
  if (classifyIp(target.host.ip) !== 'private') return false;
  return byAddress.holding(target.host.ip).some(({ worded }) => !worded);
}

/** The more of a rule fits, the more its refusal says. */
const NEARNESS: readonly Reason[] = [
  'host_not_allowed',
  'ip_not_allowed',
  'alias_unknown',
  'port_not_allowed',
  'ip_forbidden_class',
  'scheme_not_allowed',
  'connect_not_allowed',
  'method_not_allowed',
  'path_not_allowed',
  'query_not_allowed',
  'protocol_not_allowed',
  'policy_expired',
];

function nearerOf(a: Reason, b: Reason): Reason {
  return NEARNESS.indexOf(b) > NEARNESS.indexOf(a) ? b : a;
}

/** The rules that name one host pattern, range or datasource, by port and scheme. */
class AllowBucket {
  /** Whether every rule may reach private addresses. */
  readonly worded: boolean;
  readonly #places: ReadonlyMap<number, Place>;

  constructor(rules: readonly AllowRule[]) {
    this.worded = rules.every(({ source }) => source.allowPrivate);
    const groups = new Map<number, AllowRule[]>();
    for (const rule of rules) {
      for (const key of placesOf(rule)) {
        const group = groups.get(key);
        if (group) group.push(rule);
        else groups.set(key, [rule]);
      }
    }
    this.#places = new Map([...groups].map(([key, group]) => [key, new Place(group)]));
  }

  find(target: Target, nowMs: number): AllowRule | undefined {
    const place = this.#places.get(placeOf(target));
    if (target.kind !== 'tunnel') return place?.requests.first(target, nowMs, isUsable);
    return place && (place.looking.first(nowMs) ?? place.opaque.first(nowMs));
  }

  spoken(port: number, scheme: Scheme): readonly Protocol[] {
    return this.#places.get(port * 2 + (scheme === 'http' ? 0 : 1))?.spoken ?? [];
  }

  refusal(target: Target, nowMs: number): Reason {
    const place = this.#places.get(placeOf(target));
    if (target.kind === 'tunnel')
      return place ? 'policy_expired' : this.#elsewhere(target, 'connect_not_allowed');
    if (place === undefined || place.looking.isEmpty)
      return target.kind === 'datasource'
        ? 'alias_unknown'
        : this.#elsewhere(target, 'scheme_not_allowed');
    return place.refusal(target, nowMs);
  }

  /** `reason` where a rule names the port, be it for the other scheme or for tunnels. */
  #elsewhere(target: HostTarget | TunnelTarget, reason: Reason): Reason {
    const { port, host } = target;
    if (this.#places.has(port * 2) || this.#places.has(port * 2 + 1)) return reason;
    return host.ip ? 'ip_not_allowed' : 'port_not_allowed';
  }
}

/** The rules of one port and scheme. */
class Place {
  readonly requests: PathIndex<AllowRule>;
  readonly looking: Chain;
  readonly opaque: Chain;
  readonly spoken: readonly Protocol[];

  constructor(rules: readonly AllowRule[]) {
    const looking = rules.filter(({ tunnel }) => !tunnel);
    this.spoken = [...new Set(looking.flatMap(({ source }) => source.protocols))];
    this.requests = new PathIndex(looking);
    this.looking = new Chain(looking);
    this.opaque = new Chain(rules.filter(({ tunnel }) => tunnel));
  }

  /** Asked again, ever less strictly, until a rule fits: what it had been refused for is the reason. */
  refusal(target: HostTarget | DatasourceTarget, nowMs: number): Reason {
    const { requests } = this;
    if (!hasMethod(requests.methods, target.method)) return 'method_not_allowed';
    if (!requests.first(target, nowMs, always)) return 'path_not_allowed';
    if (!requests.first(target, nowMs, queryFits)) return 'query_not_allowed';
    return requests.first(target, nowMs, speaksIt) ? 'policy_expired' : 'protocol_not_allowed';
  }
}

function always(): boolean {
  return true;
}

function speaksIt(rule: AllowRule, target: HostTarget | DatasourceTarget): boolean {
  return queryFits(rule, target) && speaks(rule, target);
}

/**
 * The first of some rules that has not expired. One that expires no later than another before it is never the first, so it is
 * not kept: what is left has a different day each.
 */
class Chain {
  readonly isEmpty: boolean;
  readonly #rules: readonly AllowRule[];

  constructor(rules: readonly AllowRule[]) {
    let last = Number.NEGATIVE_INFINITY;
    this.#rules = rules.filter(({ source }) => {
      const later = (source.expiresMs ?? Number.POSITIVE_INFINITY) > last;
      if (later) last = source.expiresMs ?? Number.POSITIVE_INFINITY;
      return later;
    });
    this.isEmpty = rules.length === 0;
  }

  first(nowMs: number): AllowRule | undefined {
    for (const rule of this.#rules) if (isAlive(rule, nowMs)) return rule;
    return undefined;
  }
}

/** A port and a scheme in one number; datasources have neither. */
function placeOf(target: Target): number {
  if (target.kind === 'datasource') return 0;
  return target.port * 2 + (target.kind === 'host' && target.scheme === 'http' ? 0 : 1);
}

function placesOf({ source, ports }: AllowRule): readonly number[] {
  if (source.datasource) return [0];
  const scheme = source.scheme === 'http' ? 0 : 1;
  return [...ports].map((port) => port * 2 + scheme);
}
