import type { RequestChange } from '../change.ts';
import {
  boxKey,
  commonBox,
  type Filed,
  find,
  type Grant,
  type Grants,
  type Refusal,
  type Region,
  type Witness,
} from '../space/index.ts';
import { type Changed, changedGrants } from './changed.ts';
import { otherwiseAllowed } from './treatment.ts';

/**
 * What one region allows and the other does not, or allows otherwise: for each rule that makes a difference one example of each
 * kind. Exact: every request that is decided otherwise lies in a rule that is named here for that kind of change.
 */
export function requestChanges(before: Region, after: Region): RequestChange[] {
  return (['requests', 'tunnels'] as const).flatMap((half) => {
    const [old, fresh] = changedGrants(before[half], after[half]);
    return [
      ...newlyAllowed(old, fresh).map((found) => verdictChange(found, true)),
      ...newlyAllowed(fresh, old).map((found) => verdictChange(found, false)),
      ...otherwiseAllowed(old, fresh),
    ];
  });
}

/** A request that only one side allows, and the rule that makes it so. */
interface Found {
  readonly example: Witness;
  readonly rule: string;
  readonly policy: string | null;
  /** What happens on the side that does not allow. */
  readonly instead: string;
  readonly allowedBy: string;
}

function verdictChange(
  { example, rule, policy, instead, allowedBy }: Found,
  widening: boolean,
): RequestChange {
  const allowed = `allowed by ${allowedBy}`;
  return {
    change: widening ? 'allowed' : 'denied',
    widening,
    example: example.request,
    ...(example.resolve === undefined ? {} : { resolve: example.resolve }),
    rule,
    policy,
    before: widening ? instead : allowed,
    after: widening ? allowed : instead,
  };
}

/**
 * What `now` allows and `then` does not. Such a request is in a grant that only `now` has, or in a refusal (or a rule that looks
 * into tunnels) that only `then` has: were all of those on both sides, both would decide alike.
 */
function newlyAllowed(then: Changed, now: Changed): Found[] {
  return [
    ...byNewGrants(then, now),
    ...byLostRefusals(then.grants, now.grants),
    ...byLostLooks(then.grants, now.grants),
  ];
}

function byNewGrants(then: Changed, now: Changed): Found[] {
  const avoided = [...now.grants.avoided, { layer: then.grants.layer }];
  return eachRule(onlyIn(now.changed, then.changed), ({ box, rule, policy }) => {
    const example = find(box, avoided);
    return example && { example, rule: rule.id, policy, instead: 'denied', allowedBy: rule.id };
  });
}

function byLostRefusals(then: Grants, now: Grants): Found[] {
  return eachRule(onlyIn(then.refused, now.refused), (refusal) => {
    const { box, rule, policy } = refusal;
    // Until a name is resolved a refusal by its address says nothing.
    const resolved = box.place.kind === 'name' && box.addresses !== null;
    if (!find(box, [{ layer: now.refusals }], resolved)) return undefined;
    const found = firstGrant(now, refusal, resolved);
    return found && { ...found, rule, policy, instead: `denied by ${rule}` };
  });
}

/** Of requests nobody looks into anything, so this is about tunnels alone. */
function byLostLooks(then: Grants, now: Grants): Found[] {
  return eachRule(onlyIn(then.looking, now.looking), (look) => {
    const { rule, policy } = look;
    const found = firstGrant(now, look, false);
    return found && { ...found, rule: rule.id, policy, instead: `looked into by ${rule.id}` };
  });
}

/** A request in `lost` that is allowed. */
function firstGrant(
  now: Grants,
  lost: Filed,
  resolved: boolean,
): Pick<Found, 'example' | 'allowedBy'> | undefined {
  for (const { box, rule } of now.layer.meeting(lost.box)) {
    const both = commonBox(box, lost.box);
    const example = both && find(both, now.avoided, resolved);
    if (example) return { example, allowedBy: rule.id };
  }
  return undefined;
}

/** Those whose box the other list has not. */
function onlyIn<T extends Filed>(list: readonly T[], other: readonly T[]): readonly T[] {
  if (list.length === 0 || other.length === 0) return list;
  const known = new Set(other.map(({ box }) => boxKey(box)));
  return list.filter(({ box }) => !known.has(boxKey(box)));
}

/** The first finding of each rule. */
function eachRule<T extends Grant | Refusal>(
  items: readonly T[],
  search: (item: T) => Found | undefined,
): Found[] {
  const found = new Map<string, Found>();
  for (const item of items) {
    const key = `${item.policy} ${typeof item.rule === 'string' ? item.rule : item.rule.id}`;
    const one = found.has(key) ? undefined : search(item);
    if (one) found.set(key, one);
  }
  return [...found.values()];
}
