import { canonicalJson } from '../canonical-json.ts';
import type { Guard } from '../projection.ts';

/** What a rule asks of queries, for people; the same text for the same guard. Null: nothing. */
export function guardText(guard: Guard | null): string | null {
  if (guard === null) return null;
  const { type: _type, ...rest } = guard;
  const parts = Object.entries(rest)
    .map(([name, value]) => [name, sorted(value)] as const)
    .filter(([, value]) => canonicalJson(value) !== '{}')
    .map(([name, value]) => `${name} ${canonicalJson(value)}`);
  return parts.toSorted().join(', ');
}

function sorted(value: unknown): unknown {
  return Array.isArray(value) ? value.map(String).toSorted((a, b) => (a < b ? -1 : 1)) : value;
}

/** Whether a query may pass `after` that did not pass `before`. */
export function guardWidens(before: Guard | null, after: Guard | null): boolean {
  if (before === null) return false;
  if (after === null) return true;
  if (before.type === 'clickhouse' && after.type === 'clickhouse') {
    return !(
      isWithin(after.tables, before.tables, (table, wide) => coversTable(wide, table)) &&
      isWithin(after.functions, before.functions) &&
      isWithin(after.settings, before.settings)
    );
  }
  if (before.type === 's3' && after.type === 's3') {
    return !(
      isWithin(after.prefixes, before.prefixes, (prefix, wide) => prefix.startsWith(wide)) &&
      isWithin(after.operations, before.operations)
    );
  }
  if ('labels' in before && 'labels' in after) {
    const keeps = Object.entries(before.labels).every(
      ([name, value]) => after.labels[name] === value,
    );
    return !(keeps && isWithin(after.endpoints, before.endpoints));
  }
  // What cannot be compared may be wider.
  return true;
}

type Words = 'any' | readonly string[];

function isWithin(
  inner: Words,
  outer: Words,
  covers: (one: string, wide: string) => boolean = (one, wide) => one === wide,
): boolean {
  if (outer === 'any') return true;
  return inner !== 'any' && inner.every((one) => outer.some((wide) => covers(one, wide)));
}

function coversTable(wide: string, table: string): boolean {
  return wide === table || (wide.endsWith('.*') && table.startsWith(wide.slice(0, -1)));
}
