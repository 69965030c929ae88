import { type AllowRule, namesHost, type RolePolicy } from './role-policy.ts';
import type { Target } from './target.ts';

/** What one rule allows, as its policy says it. */
export interface NearRule {
  readonly rule: string;
  readonly hosts?: readonly string[];
  /** `<type>/<name>`. */
  readonly datasource?: string;
  readonly scheme?: string;
  readonly ports?: readonly number[];
  readonly methods: 'any' | readonly string[];
  readonly paths: 'any' | readonly string[];
}

/** Of the role's own policy; one of both. */
export type Near = { readonly rules: readonly NearRule[] } | { readonly hosts: readonly string[] };

const RULES_MAX = 3;
const LIST_MAX = 5;
const TEXT_MAX = 128;

/** Of a policy with more rules the others are not looked at: a refusal is to cost little. */
const LOOKED_AT = 2_000;

/**
 * What a role may ask near a target that was refused, for whoever asked: the rules for its host or datasource, or where none names it, the
 * hosts that share the most with its name, from the right. At most three rules and five of a kind, without addresses and credentials.
 */
export function nearTo({ allow }: RolePolicy, target: Target): Near {
  const looked = allow.slice(0, LOOKED_AT);
  const about = looked.filter((rule) => names(rule, target)).slice(0, RULES_MAX);
  if (about.length > 0) return { rules: about.map(shown) };
  const name = target.kind === 'datasource' ? '' : target.host.text;
  // By how much they share; within that in the order of the policy.
  const near: Set<string>[] = [];
  for (const { source } of looked)
    for (const place of placesOf(source, target)) {
      const much = shared(name, place);
      near[much] ??= new Set();
      near[much].add(place);
    }
  return { hosts: short(near.toReversed().flatMap((places) => [...(places ?? [])])) };
}

/** What a program would write in place of the target's host or datasource. */
function placesOf({ hosts, datasource }: AllowRule['source'], target: Target): readonly string[] {
  if (target.kind !== 'datasource') return hosts;
  return datasource ? [`${datasource.type}/${datasource.name}`] : [];
}

function names({ source, hosts }: AllowRule, target: Target): boolean {
  if (target.kind !== 'datasource') return !target.host.ip && namesHost(hosts, target.host.text);
  return source.datasource?.type === target.type && source.datasource.name === target.name;
}

function shown({ source }: AllowRule): NearRule {
  const { id, hosts, datasource, scheme, ports, methods, paths } = source;
  return {
    rule: id,
    ...(datasource
      ? { datasource: `${datasource.type}/${datasource.name}` }
      : { hosts: short(hosts), scheme, ports: ports.slice(0, LIST_MAX) }),
    methods: methods === 'any' ? methods : methods.slice(0, LIST_MAX * 2),
    paths: paths === 'any' ? paths : short(paths),
  };
}

function short(texts: readonly string[]): string[] {
  return texts.filter(({ length }) => length <= TEXT_MAX).slice(0, LIST_MAX);
}

/** How many labels two names share, from the right. */
function shared(a: string, b: string): number {
  let count = 0;
  for (let back = 1; a.at(-back) === b.at(-back); back += 1) {
    if (a.at(-back) === undefined) return count + 1; // the same name
    if (a.at(-back) === '.') count += 1;
  }
  return isLabelsOf(a, b) || isLabelsOf(b, a) ? count + 1 : count;
}

function isLabelsOf(end: string, name: string): boolean {
  return end !== '' && name.endsWith(`.${end}`);
}
