import type { AllowProjection } from '../projection.ts';
import type { Grant, Grants } from '../space/index.ts';

/** What one side allows, and which of its grants are not word for word on the other side. */
export interface Changed {
  readonly grants: Grants;
  readonly changed: readonly Grant[];
}

/** Rules that stand on both sides as they are make no difference, so nobody need look at them. */
export function changedGrants(before: Grants, after: Grants): [Changed, Changed] {
  const [old, fresh] = [writtenRules(before), writtenRules(after)];
  return [withoutThose(before, old, fresh), withoutThose(after, fresh, old)];
}

function withoutThose(
  grants: Grants,
  mine: ReadonlyMap<AllowProjection, string>,
  theirs: ReadonlyMap<AllowProjection, string>,
): Changed {
  const known = new Set(theirs.values());
  const changed = grants.allowed.filter(({ rule }) => !known.has(mine.get(rule) ?? ''));
  return { grants, changed };
}

/** Everything of a rule but when it expires, which is told of its document. */
function writtenRules({ allowed }: Grants): Map<AllowProjection, string> {
  const texts = new Map<AllowProjection, string>();
  for (const { rule, policy } of allowed) {
    if (texts.has(rule)) continue;
    const { expiresMs: _, ...rest } = rule;
    texts.set(rule, JSON.stringify([policy, rest]));
  }
  return texts;
}
