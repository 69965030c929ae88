import type { Quota } from '#policies';

/** A rule's rate as a program is told of it. */
export interface RuleQuota {
  readonly rule: string;
  readonly quota: Quota;
}

/** Whole seconds, and not one too few. */
const seconds = (ms: number): number => Math.ceil(ms / 1_000);

/**
 * `RateLimit-Policy` and `RateLimit` (draft-ietf-httpapi-ratelimit-headers-10): the burst of the rule as quota, and the time in which it comes back as
 * window, since whoever sends as many as `rate` says at once is refused.
 */
export function rateLimitFields({ rule, quota }: RuleQuota): string[] {
  const { count, windowMs, remaining, resetMs } = quota;
  return [
    'ratelimit-policy',
    `"${rule}";q=${count};w=${Math.max(1, seconds(windowMs))}`,
    'ratelimit',
    `"${rule}";r=${remaining};t=${seconds(resetMs)}`,
  ];
}

const THEIRS = /^ratelimit(?:-|$)/;

/** The headers of an answer with those of our rule in place of the other side's, so that one limit is told. `X-RateLimit-*` is none of this draft. */
export function withRateLimit(headers: string[], told: RuleQuota | undefined): string[] {
  if (told === undefined) return headers;
  const kept: string[] = [];
  for (let at = 0; at < headers.length; at += 2) {
    const [name = '', value = ''] = [headers[at], headers[at + 1]];
    // The proxy's own limit is another's, and has refused it.
    if (name.toLowerCase() === 'x-outrider-error') return headers;
    if (!THEIRS.test(name.toLowerCase())) kept.push(name, value);
  }
  return [...kept, ...rateLimitFields(told)];
}
