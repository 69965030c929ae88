import type { AllowProjection, Limits } from '../projection.ts';
import { guardText, guardWidens } from './guard.ts';
import { limitsText, lowered, raised } from './limits.ts';

/** One thing in which two rules that allow the same request differ. */
export interface AttributeChange {
  readonly change: 'credential' | 'limits' | 'guard';
  readonly widening: boolean;
  readonly before: string | null;
  readonly after: string | null;
}

/** Everything in which the treatment of a request differs between two rules that allow it. */
export function attributeChanges(
  before: AllowProjection,
  after: AllowProjection,
): AttributeChange[] {
  return [
    ...credentialChange(before.credential, after.credential),
    ...limitChanges(before.limits, after.limits),
    ...guardChange(before.guard, after.guard),
  ];
}

function credentialChange(before: string | null, after: string | null): AttributeChange[] {
  // Another credential may do what the first could not.
  return before === after
    ? []
    : [{ change: 'credential', widening: after !== null, before, after }];
}

/** Some may be raised while others are lowered: those are two changes. */
function limitChanges(before: Limits, after: Limits): AttributeChange[] {
  const change = (names: readonly (keyof Limits)[], widening: boolean): AttributeChange[] =>
    names.length === 0
      ? []
      : [
          {
            change: 'limits',
            widening,
            before: limitsText(before, names),
            after: limitsText(after, names),
          },
        ];
  return [...change(raised(before, after), true), ...change(lowered(before, after), false)];
}

function guardChange(
  before: AllowProjection['guard'],
  after: AllowProjection['guard'],
): AttributeChange[] {
  const texts = { before: guardText(before), after: guardText(after) };
  if (texts.before === texts.after) return [];
  return [{ change: 'guard', widening: guardWidens(before, after), ...texts }];
}
