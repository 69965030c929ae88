import type { OutriderError } from '#core/errors';
import { type AllowDecision, type Limits, REASONS, type RuleLimits } from '#policies';
import type { Caller } from './authority.ts';
import { refused } from './refusal.ts';

/**
 * Takes a place under the limits of the rule that allowed a request, for as long as the request lasts; call what is returned when
 * it has ended. All sandboxes of a tenant's role share the places of one rule; other proxies count for themselves.
 * @throws {OutriderError} RATE_LIMITED, with the time to wait
 */
export function takePlace(
  ruleLimits: RuleLimits,
  { identity, role }: Caller,
  { policy, rule, limits }: AllowDecision,
): () => void {
  const key = JSON.stringify([identity.principal.tenant, role, policy, rule]);
  const place = ruleLimits.take(key, limits, performance.now());
  if (place.ok) return place.release;
  const { reason, retryAfterMs } = place;
  throw refused('RATE_LIMITED', REASONS[reason].text, reason, { rule, retryAfterMs });
}

/** @throws {OutriderError} BODY_TOO_LARGE where the head says already that the body will be */
export function assertBodyFits(contentLength: string | undefined, { requestBytes }: Limits): void {
  if (Number(contentLength ?? 0) > (requestBytes ?? Number.POSITIVE_INFINITY))
    throw requestTooLarge();
}

export function requestTooLarge(): OutriderError {
  return refused('BODY_TOO_LARGE', REASONS.body_too_large.text, 'body_too_large');
}

/** It is the other side that went too far: 502, not the 413 that blames the caller. */
export function answerTooLarge(): OutriderError {
  return refused('BODY_TOO_LARGE', 'the answer is larger than the rule allows', 'body_too_large', {
    status: 502,
  });
}
