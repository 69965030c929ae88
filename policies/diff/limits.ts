import type { Limits } from '../projection.ts';
import { COUNTS } from '../rule-limits.ts';
import type { RateValue } from '../units.ts';

/** Every limit of a rule. The larger the number the more is possible, but for `stepMs`. */
const NAMES: readonly (keyof Limits)[] = ['rate', 'burst', ...COUNTS, 'stepMs'];

/** The limits that leave more room than before. */
export function raised(before: Limits, after: Limits): (keyof Limits)[] {
  return NAMES.filter((name) => roomFor(after, name) > roomFor(before, name));
}

/** The limits that leave less. */
export function lowered(before: Limits, after: Limits): (keyof Limits)[] {
  return raised(after, before);
}

/** `rate 60/min, burst 20`; a limit that is not there is `unlimited`. */
export function limitsText(limits: Limits, names: readonly (keyof Limits)[]): string {
  return names.map((name) => `${name} ${limitText(limits, name)}`).join(', ');
}

/** How much a limit lets through, as a number to compare with others of its name. */
function roomFor(limits: Limits, name: keyof Limits): number {
  const { rate } = limits;
  if (name === 'rate') return rate ? rate.count / rate.perMs : Number.POSITIVE_INFINITY;
  // Without a rate a burst means nothing.
  if (name === 'burst') return rate ? (limits.burst ?? 1) : Number.POSITIVE_INFINITY;
  const value = limits[name];
  if (value === undefined) return Number.POSITIVE_INFINITY;
  return name === 'stepMs' ? -value : value;
}

function limitText(limits: Limits, name: keyof Limits): string {
  if (name === 'rate') return limits.rate ? rateText(limits.rate) : 'unlimited';
  if (name === 'burst') return limits.rate ? String(limits.burst ?? 1) : 'unlimited';
  return String(limits[name] ?? 'unlimited');
}

const UNITS = { s: 1000, min: 60_000, h: 3_600_000, day: 86_400_000 };

function rateText({ count, perMs }: RateValue): string {
  const unit = Object.entries(UNITS).find(([, ms]) => ms === perMs)?.[0];
  return `${count}/${unit ?? `${perMs}ms`}`;
}
