import type { Bytes, Duration, Rate } from './document.ts';

/** A number of events in a time. */
export interface RateValue {
  readonly count: number;
  readonly perMs: number;
}

const BYTES = { B: 1, KiB: 2 ** 10, MiB: 2 ** 20, GiB: 2 ** 30, TiB: 2 ** 40 };
const TIMES = { ms: 1, s: 1000, min: 60_000, m: 60_000, h: 3_600_000, day: 86_400_000 };

/** Bytes, from a number or text such as `50MiB`. The schema has checked the form. */
export function bytesOf(value: Bytes): number {
  if (typeof value === 'number') return value;
  const [, count, unit] = /^(\d+)(\w+)$/.exec(value) ?? [];
  return Number(count) * unitOf(BYTES, unit);
}

/** Milliseconds, from text such as `30s`. */
export function durationMsOf(value: Duration): number {
  const [, count, unit] = /^(\d+)(\w+)$/.exec(value) ?? [];
  return Number(count) * unitOf(TIMES, unit);
}

/** From text such as `60/min`. */
export function rateOf(value: Rate): RateValue {
  const [count, unit] = value.split('/');
  return { count: Number(count), perMs: unitOf(TIMES, unit) };
}

/** The first millisecond, in UTC, after the day `YYYY-MM-DD`; undefined where the calendar has no such day. */
export function endOfDayMs(date: string): number | undefined {
  const start = Date.parse(`${date}T00:00:00Z`);
  if (Number.isNaN(start) || new Date(start).toISOString().slice(0, 10) !== date) return undefined;
  return start + TIMES.day;
}

function unitOf(table: Readonly<Record<string, number>>, unit: string | undefined): number {
  return table[unit ?? ''] ?? Number.NaN;
}
