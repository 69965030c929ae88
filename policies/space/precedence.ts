import type { AllowProjection } from '../projection.ts';
import type { Place } from './box.ts';

/** What decides which of several rules counts that allow one request. */
export interface Precedence {
  readonly credential: boolean;
  /** The more, the narrower; comparable among places that share a host or an address. */
  readonly specificity: number;
  readonly policy: string;
  readonly id: string;
}

export function precedenceOf(rule: AllowProjection, policy: string, place: Place): Precedence {
  const { credential, id } = rule;
  return { credential: credential !== null, specificity: specificityOf(place), policy, id };
}

/** Whether `a` is the one that counts, as `decide` chooses. */
export function goesBefore(a: Precedence, b: Precedence): boolean {
  if (a.credential !== b.credential) return a.credential;
  if (a.specificity !== b.specificity) return a.specificity > b.specificity;
  if (a.policy !== b.policy) return a.policy < b.policy;
  return a.id < b.id;
}

function specificityOf(place: Place): number {
  if (place.kind === 'address') return place.bits ?? 0;
  if (place.kind === 'datasource' || !place.pattern) return 0;
  return place.pattern.wildcard ? place.pattern.name.length : Number.MAX_SAFE_INTEGER;
}
