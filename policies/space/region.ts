import type { AllowProjection, BoundaryProjection, PolicyProjection } from '../projection.ts';
import { unionOfCidrs } from './address-set.ts';
import {
  allowBoxes,
  type Box,
  cidr,
  denyBoxes,
  denyTunnelBoxes,
  EVERYTHING,
  type Place,
  tunnelBoxes,
} from './box.ts';
import type { Avoided } from './find.ts';
import { type Filed, Layer } from './layer.ts';
import { type Precedence, precedenceOf } from './precedence.ts';

/** A part of what an allow rule opens, before deny rules. */
export interface Grant extends Filed {
  readonly rule: AllowProjection;
  readonly policy: string;
  readonly precedence: Precedence;
}

/** A part of what a deny rule refuses. */
export interface Refusal extends Filed {
  /** `boundary:<name>` where a Boundary refuses. */
  readonly rule: string;
  readonly policy: string | null;
}

/** What some policies allow together: grants, less what a deny rule refuses. Dates do not count. */
export interface Region {
  readonly requests: Grants;
  /** Opaque ones, less those that a rule that looks at requests looks into. */
  readonly tunnels: Grants;
}

/** One half of a region: `allowed`, less everything in `refused` (and in `looking`, where a request is a tunnel). */
export interface Grants {
  readonly allowed: readonly Grant[];
  readonly refused: readonly Refusal[];
  readonly looking: readonly Grant[];
  /** `allowed`, filed. */
  readonly layer: Layer<Grant>;
  /** What is refused. */
  readonly refusals: Layer<Refusal>;
  /** What is not there, though it is allowed. */
  readonly avoided: readonly Avoided[];
}

/**
 * `denials` are the policies whose deny rules count. Of `boundaries` only what names may lead to makes a difference: everything
 * else was proven when the set was loaded.
 */
export function regionOf(
  policies: readonly PolicyProjection[],
  denials: readonly PolicyProjection[] = policies,
  boundaries: readonly BoundaryProjection[] = [],
): Region {
  const isOpaque = ({ protocols }: AllowProjection) => protocols.includes('tunnel');
  const tunnels = grants(policies, isOpaque, tunnelBoxes);
  const looksIn = (rule: AllowProjection) => !isOpaque(rule) && tunnels.length > 0;
  return {
    requests: grantsOf(
      grants(policies, () => true, allowBoxes),
      refusals(denials, boundaries, denyBoxes),
      [],
    ),
    // Nobody asks what keeps tunnels out where there are none.
    tunnels: grantsOf(
      tunnels,
      tunnels.length > 0 ? withoutTwins(refusals(denials, boundaries, denyTunnelBoxes)) : [],
      withoutTwins(grants(policies, looksIn, tunnelBoxes)),
    ),
  };
}

function grants(
  policies: readonly PolicyProjection[],
  isMeant: (rule: AllowProjection) => boolean,
  boxesOf: (rule: AllowProjection) => readonly Box[],
): Grant[] {
  const all: Grant[] = [];
  for (const { name, allow } of policies) {
    for (const rule of allow) {
      if (!isMeant(rule)) continue;
      for (const box of boxesOf(rule))
        all.push({ box, rule, policy: name, precedence: precedenceOf(rule, name, box.place) });
    }
  }
  return all;
}

function refusals(
  denials: readonly PolicyProjection[],
  boundaries: readonly BoundaryProjection[],
  boxesOf: typeof denyBoxes,
): Refusal[] {
  const all = boundaries.flatMap(addressCeiling);
  for (const { name, deny } of denials) {
    for (const rule of deny)
      for (const box of boxesOf(rule)) all.push({ box, rule: rule.id, policy: name });
  }
  return all;
}

/** What a Boundary refuses once it is known where a name leads to. */
function addressCeiling({ name, neverCidrs }: BoundaryProjection): Refusal[] {
  if (neverCidrs.length === 0) return [];
  const addresses = unionOfCidrs(neverCidrs.map(cidr));
  const box: Box = { ...EVERYTHING, place: { kind: 'name', pattern: null }, addresses };
  return [{ box, rule: `boundary:${name}`, policy: null }];
}

function grantsOf(
  allowed: readonly Grant[],
  refused: readonly Refusal[],
  looking: readonly Grant[],
): Grants {
  const denied = new Layer(refused);
  const lookers = looking.length === 0 ? [] : [{ layer: new Layer(looking) }];
  const layer = new Layer(allowed);
  return {
    allowed,
    refused,
    looking,
    layer,
    refusals: denied,
    avoided: [{ layer: denied }, ...lookers],
  };
}

/** Many rules for the paths of one host are one and the same box where paths do not count. */
function withoutTwins<T extends Filed>(items: readonly T[]): T[] {
  const seen = new Map<string, T>();
  for (const item of items) {
    const key = boxKey(item.box);
    if (!seen.has(key)) seen.set(key, item);
  }
  return [...seen.values()];
}

/** The same for boxes that are written alike. */
export function boxKey(box: Box): string {
  let key = KEYS.get(box);
  if (key === undefined) KEYS.set(box, (key = writtenOut(box)));
  return key;
}

const KEYS = new WeakMap<Box, string>();

function writtenOut({ place, scheme, ports, actions, path, query, addresses }: Box): string {
  const list = ports && ports.size > 1 ? [...ports].toSorted((a, b) => a - b) : [...(ports ?? [])];
  const key = `${place.kind} ${placeText(place)} ${scheme} ${list.join()} ${actions} ${path.text}`;
  if (!query && !addresses) return key;
  const wanted = [...(query?.wanted ?? [])]
    .toSorted(([a], [b]) => (a < b ? -1 : 1))
    .map(([name, all]) => [name, all.map(({ text }) => text)]);
  const only = query?.only && [...query.only].toSorted();
  const ranges = addresses?.map(({ first, last }) => `${first}-${last}`);
  return `${key} ${JSON.stringify([wanted, only, ranges])}`;
}

function placeText(place: Place): string | number | null {
  if (place.kind === 'address') return place.bits;
  return place.kind === 'name' ? (place.pattern?.text ?? '') : (place.key ?? '');
}
