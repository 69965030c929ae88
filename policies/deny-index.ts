import { byDatasource } from './allow-index.ts';
import { CidrIndex } from './cidr-index.ts';
import { HostIndex } from './host-index.ts';
import type { Cidr } from './ip.ts';
import { denyApplies } from './match.ts';
import { ANY_METHOD } from './method-set.ts';
import { PathIndex } from './path-index.ts';
import type { DenyRule } from './rule.ts';
import type { Target } from './target.ts';

/** Whether a rule that names a target counts at this time. */
export type Counts = (rule: DenyRule, _target: unknown, nowMs: number) => boolean;

/** Deny rules by what they name. */
export class DenyIndex {
  readonly #byHost: HostIndex<DenyBucket>;
  readonly #byAddress: CidrIndex<DenyBucket>;
  readonly #byDatasource: ReadonlyMap<string, ReadonlyMap<string, DenyBucket>>;
  /** Those that name requests alone, to anywhere. */
  readonly #anywhere: DenyBucket;
  /** Those that name hosts and the addresses they must lead to. */
  readonly #byBoth: CidrIndex<readonly DenyRule[]>;

  /** `rules` stand in order. */
  constructor(rules: readonly DenyRule[]) {
    const file = (items: readonly DenyRule[]): DenyBucket => new DenyBucket(items);
    const ranges = (cidrs: (rule: DenyRule) => readonly Cidr[]) =>
      rules.flatMap((rule) => cidrs(rule).map((cidr) => [cidr, rule] as const));
    this.#byHost = HostIndex.of(
      rules.flatMap((rule) =>
        rule.cidrs ? [] : (rule.hosts ?? []).map((pattern) => [pattern, rule] as const),
      ),
      file,
    );
    this.#byAddress = CidrIndex.of(
      ranges(({ hosts, cidrs }) => (hosts ? [] : (cidrs ?? []))),
      file,
    );
    this.#byBoth = CidrIndex.of(
      ranges(({ hosts, cidrs }) => (hosts ? (cidrs ?? []) : [])),
      (items) => items,
    );
    this.#byDatasource = byDatasource(rules, ({ source }) => source.datasource, file);
    this.#anywhere = new DenyBucket(
      rules.filter(({ hosts, cidrs, source }) => !hosts && !cidrs && !source.datasource),
    );
  }

  /**
   * A rule that refuses `target` and counts; undefined where none does. In an `opaque` tunnel nobody sees method and path, so a
   * rule refuses whatever might be one of its requests.
   */
  find(target: Target, opaque: boolean, nowMs: number, counts: Counts): DenyRule | undefined {
    const anywhere = this.#anywhere.find(target, opaque, nowMs, counts);
    if (anywhere) return anywhere;
    for (const bucket of this.#naming(target)) {
      const rule = bucket.find(target, opaque, nowMs, counts);
      if (rule) return rule;
    }
    return undefined;
  }

  /** Whether a rule with ranges refuses that `address` is dialled for `target`, whatever the time. */
  refusesAddress(target: Target, opaque: boolean, address: Uint8Array): boolean {
    return (
      this.#byAddress
        .holding(address)
        .some((bucket) => bucket.find(target, opaque, 0, atAnyTime) !== undefined) ||
      this.#byBoth
        .holding(address)
        .some((rules) => rules.some((rule) => denyApplies(rule, target, opaque, address)))
    );
  }

  #naming(target: Target): readonly DenyBucket[] {
    if (target.kind === 'datasource') {
      const bucket = this.#byDatasource.get(target.type)?.get(target.name);
      return bucket ? [bucket] : [];
    }
    const { ip, text } = target.host;
    return ip === null ? this.#byHost.naming(text) : this.#byAddress.holding(ip);
  }
}

const atAnyTime: Counts = () => true;

/** The rules that name one host pattern, range or datasource, by port. */
class DenyBucket {
  readonly #onAnyPort: DenyPlace | undefined;
  readonly #byPort: ReadonlyMap<number, DenyPlace>;

  constructor(rules: readonly DenyRule[]) {
    const anyPort = rules.filter(({ ports }) => ports === null);
    this.#onAnyPort = anyPort.length === 0 ? undefined : new DenyPlace(anyPort);
    const groups = new Map<number, DenyRule[]>();
    for (const rule of rules) {
      for (const port of rule.ports ?? []) {
        const group = groups.get(port);
        if (group) group.push(rule);
        else groups.set(port, [rule]);
      }
    }
    this.#byPort = new Map([...groups].map(([port, group]) => [port, new DenyPlace(group)]));
  }

  find(target: Target, opaque: boolean, nowMs: number, counts: Counts): DenyRule | undefined {
    const found = this.#onAnyPort?.find(target, opaque, nowMs, counts);
    // A rule with a port is about hosts.
    if (found || this.#byPort.size === 0 || target.kind === 'datasource') return found;
    return this.#byPort.get(target.port)?.find(target, opaque, nowMs, counts);
  }
}

class DenyPlace {
  readonly #rules: readonly DenyRule[];
  /** Those that leave nothing of a host. */
  readonly #whole: readonly DenyRule[];
  readonly #requests: PathIndex<DenyRule>;

  constructor(rules: readonly DenyRule[]) {
    this.#rules = rules;
    this.#whole = rules.filter(
      ({ methodSet, paths }) => methodSet === ANY_METHOD && paths === null,
    );
    this.#requests = new PathIndex(rules);
  }

  find(target: Target, opaque: boolean, nowMs: number, counts: Counts): DenyRule | undefined {
    if (target.kind !== 'tunnel') return this.#requests.first(target, nowMs, counts);
    const rules = opaque ? this.#rules : this.#whole;
    return rules.find((rule) => counts(rule, target, nowMs));
  }
}
