import type { RequestChange } from '../change.ts';
import type { AllowProjection } from '../projection.ts';
import {
  type Box,
  boxKey,
  commonBox,
  find,
  type Grant,
  type Grants,
  goesBefore,
  Layer,
  type Precedence,
  type Witness,
} from '../space/index.ts';
import { type AttributeChange, attributeChanges } from './attributes.ts';
import type { Changed } from './changed.ts';

/**
 * Requests that both sides allow, by rules that differ in more than what they name. The rule that counts has changed on one side at
 * least: two that both stand on both sides would be chosen alike.
 */
export function otherwiseAllowed(before: Changed, after: Changed): RequestChange[] {
  const changes = new Map<string, RequestChange>();
  const compare = (pair: Pair) => {
    const { old, fresh } = pair;
    const news = attributeChanges(old.rule, fresh.rule).filter(
      (one) => !changes.has(keyOf(fresh, one)),
    );
    const example = news.length === 0 ? undefined : wonByBoth(before.grants, after.grants, pair);
    if (!example) return;
    for (const one of news) {
      const where = { example: example.request, rule: fresh.rule.id, policy: fresh.policy };
      changes.set(keyOf(fresh, one), { ...one, ...where });
    }
  };
  for (const [fresh, old] of unlikePairs(after, before)) compare({ old, fresh });
  // Where both have changed they were compared just now.
  const done = new Set(after.changed.map(({ rule }) => rule));
  for (const [old, fresh] of unlikePairs(before, after))
    if (!done.has(fresh.rule)) compare({ old, fresh });
  return [...changes.values()];
}

interface Pair {
  readonly old: Grant;
  readonly fresh: Grant;
}

/** A grant that has changed on one side, with each of the other side that meets it and treats requests otherwise. */
function* unlikePairs(mine: Changed, { grants: yours }: Changed): Generator<[Grant, Grant]> {
  if (mine.changed.length === 0) return;
  const treatments = new Treatments(yours);
  const [myBest, yourBest] = [bestByBox(mine.grants), bestByBox(yours)];
  for (const grant of mine.changed) {
    for (const layer of treatments.unlike(grant)) {
      for (const other of layer.meeting(grant.box)) {
        // A rule for the very box of the one may go before the other everywhere.
        if (!yieldsTo(grant, myBest, other.box) && !yieldsTo(other, yourBest, grant.box))
          yield [grant, other];
      }
    }
  }
}

function yieldsTo({ precedence }: Grant, best: BestByBox, box: Box): boolean {
  const other = best().get(boxKey(box));
  return other !== undefined && goesBefore(other, precedence);
}

type BestByBox = () => ReadonlyMap<string, Precedence>;

/** Which rule counts in each box that some rule has; made when it is asked for. */
function bestByBox({ allowed }: Grants): BestByBox {
  let best: Map<string, Precedence> | undefined;
  return () => {
    if (best) return best;
    best = new Map();
    for (const { box, precedence } of allowed) {
      const key = boxKey(box);
      const known = best.get(key);
      if (!known || goesBefore(precedence, known)) best.set(key, precedence);
    }
    return best;
  };
}

/** A request that both grants allow and that neither leaves to a rule that goes before it. */
function wonByBoth(before: Grants, after: Grants, { old, fresh }: Pair): Witness | undefined {
  const both = commonBox(old.box, fresh.box);
  return (
    both &&
    find(both, [
      ...before.avoided,
      ...after.avoided,
      { layer: before.layer, before: old.precedence },
      { layer: after.layer, before: fresh.precedence },
    ])
  );
}

/** Grants by how they treat what they allow: most rules of a set do so in few ways, and those of the same way need no comparing. */
class Treatments {
  readonly #all: Layer<Grant>;
  readonly #groups = new Map<string, { readonly grants: Grant[]; layer: Layer<Grant> | null }>();

  constructor({ allowed, layer }: Grants) {
    this.#all = layer;
    for (const grant of allowed) {
      const key = treatmentKey(grant.rule);
      const group = this.#groups.get(key);
      if (group) group.grants.push(grant);
      else this.#groups.set(key, { grants: [grant], layer: null });
    }
  }

  /** Layers that hold all grants of other ways. */
  unlike({ rule }: Grant): Layer<Grant>[] {
    const own = treatmentKey(rule);
    // From so many on, asking each costs more than it saves.
    if (this.#groups.size > TREATMENTS_MAX) return [this.#all];
    return [...this.#groups].flatMap(([key, group]) =>
      key === own ? [] : [(group.layer ??= new Layer(group.grants))],
    );
  }
}

const TREATMENTS_MAX = 16;

function keyOf({ rule, policy }: Grant, { change, widening }: AttributeChange): string {
  return `${policy} ${rule.id} ${change} ${widening}`;
}

function treatmentKey(rule: AllowProjection): string {
  let key = TREATMENTS.get(rule);
  if (key === undefined) {
    const { credential, limits, guard } = rule;
    TREATMENTS.set(rule, (key = JSON.stringify([credential, limits, guard])));
  }
  return key;
}

const TREATMENTS = new WeakMap<AllowProjection, string>();
