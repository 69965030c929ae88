import type { Quota } from './rule-limits.ts';

/** What a limit leaves, as whoever it limits is told of it. */
export interface NamedQuota {
  /** Of a rule, or of what requests are counted together by. */
  readonly name: string;
  readonly quota: Quota;
}

/** Whole seconds, and not one too few. */
const seconds = (ms: number): number => Math.ceil(ms / 1_000);

/**
 * `RateLimit-Policy` and `RateLimit` (draft-ietf-httpapi-ratelimit-headers-10): the burst as quota, and the time in which it comes back as
 * window, since whoever sends as many as `rate` says at once is refused. Names and values in turns.
 */
export function rateLimitFields({ name, quota }: NamedQuota): string[] {
  const { count, windowMs, remaining, resetMs } = quota;
  return [
    'ratelimit-policy',
    `"${name}";q=${count};w=${Math.max(1, seconds(windowMs))}`,
    'ratelimit',
    `"${name}";r=${remaining};t=${seconds(resetMs)}`,
  ];
}
