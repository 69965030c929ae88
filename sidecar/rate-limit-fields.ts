import { type NamedQuota, rateLimitFields } from '#policies';

const THEIRS = /^ratelimit(?:-|$)/;

/** The headers of an answer with those of our rule in place of the other side's, so that one limit is told. `X-RateLimit-*` is none of this draft. */
export function withRateLimit(headers: string[], told: NamedQuota | undefined): string[] {
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
