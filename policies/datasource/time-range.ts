import type { Parameters } from './parameters.ts';
import { durationMs } from './promql.ts';

/** A time from `start` to `end`; `open` where one of them is missing, and `none` where both are. */
export type Times = { readonly startMs: number; readonly endMs: number } | 'open' | 'unreadable';

/** As the Prometheus API writes times: seconds since 1970, or RFC 3339. */
export function prometheusTimes(parameters: Parameters): Times {
  return timesOf(parameters, (text) => {
    const seconds = plainNumber(text);
    return seconds === undefined ? rfc3339(text) : seconds * 1_000;
  });
}

/** As Loki writes them: nanoseconds where there are as many digits, seconds, or RFC 3339; `since` counts back from `end`. */
export function lokiTimes(parameters: Parameters): Times {
  if (parameters.one('since') !== undefined) return 'open';
  return timesOf(parameters, (text) => {
    const number = plainNumber(text);
    if (number === undefined) return rfc3339(text);
    // Whole numbers of more than ten digits are nanoseconds to Loki, all others seconds.
    return /^\d{11,}$/.test(text) ? number / 1e6 : number * 1_000;
  });
}

/** Of a `step` or `interval`: a duration, or seconds. */
export function stepMs(text: string | undefined): number | undefined | 'unreadable' {
  if (text === undefined) return undefined;
  const ms = DURATION.test(text) ? durationMs(text) : (plainNumber(text) ?? Number.NaN) * 1_000;
  return ms > 0 ? ms : 'unreadable';
}

/** Of a `timeout`: what cannot be read is longer than any. */
export function timeoutMs(text: string): number {
  const step = stepMs(text);
  return typeof step === 'number' ? step : Number.POSITIVE_INFINITY;
}

const DURATION = /^(?:\d+(?:ms|[smhdwy]))+$/;

function timesOf(parameters: Parameters, read: (text: string) => number | undefined): Times {
  const [start, end] = [parameters.one('start'), parameters.one('end')];
  const [startMs, endMs] = [start, end].map((text) =>
    text === undefined ? undefined : read(text),
  );
  if ((start !== undefined && startMs === undefined) || (end !== undefined && endMs === undefined))
    return 'unreadable';
  if (startMs === undefined || endMs === undefined) return 'open';
  return { startMs, endMs };
}

function plainNumber(text: string): number | undefined {
  return /^\d{1,20}(?:\.\d{1,9})?$/.test(text) ? Number(text) : undefined;
}

const RFC3339 = /^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(?:\.\d{1,9})?(?:Z|[+-]\d{2}:\d{2})$/;

function rfc3339(text: string): number | undefined {
  const time = RFC3339.test(text) ? Date.parse(text) : Number.NaN;
  return Number.isNaN(time) ? undefined : time;
}
