import type { OutriderError } from '#core/errors';
import { type AllowDecision, type Limits, REASONS, type Target } from '#policies';
import type { Caller } from './authority.ts';
import type { Taken } from './limits/limit.ts';
import { limitsOf } from './limits/limits-of.ts';
import type { Parts } from './parts.ts';
import { refused } from './refusal.ts';

/** What an allowed exchange holds until it ends. */
export interface TakenPlace {
  /** To be called when it has ended. */
  readonly release: () => void;
  /** Counts bytes of bodies or of a tunnel; returns why the exchange must end where they use a budget up. */
  readonly spend: (bytes: number) => OutriderError | undefined;
}

/**
 * Takes a place under every limit of an allowed request, for as long as the request lasts, and counts it in the budgets of the rule's
 * policy. All sandboxes of a tenant's role share the places of one rule. A promise only where the limiter must be waited for.
 * @throws {OutriderError} RATE_LIMITED, QUOTA_EXCEEDED, with the time to wait
 */
export function takePlace(
  { limiter, limits: configured, ruleLimits, budgets, metrics }: PlaceParts,
  caller: Caller,
  target: Target,
  decision: AllowDecision,
): TakenPlace | Promise<TakenPlace> {
  const { identity, role, set } = caller;
  const { policy, rule, limits, credential } = decision;
  const { tenant } = identity.principal;
  const { concurrent } = limits;
  const place =
    concurrent === undefined
      ? UNCOUNTED
      : ruleLimits.take(
          JSON.stringify([tenant, role, policy, rule]),
          { concurrent },
          performance.now(),
        );
  if (!place.ok) {
    const { reason, retryAfterMs } = place;
    metrics.limited.inc({ dimension: 'concurrency' });
    throw refused('RATE_LIMITED', REASONS[reason].text, reason, { rule, retryAfterMs });
  }
  const spender = {
    tenant,
    role,
    sandbox: identity.execution.sandboxId,
    credential: credential ?? '',
  };
  const counted = (taken: Taken): TakenPlace => {
    if (!taken.ok) throw limited(taken, rule, metrics);
    const spending = budgets.take(set.budgets.get(policy) ?? [], spender, Date.now());
    if (!spending.ok) {
      metrics.limited.inc({ dimension: 'budget' });
      throw usedUp(rule, spending.retryAfterMs);
    }
    return {
      release: place.release,
      spend: (bytes) => {
        taken.spend(bytes);
        return spending.spend(bytes) ? undefined : usedUp(rule);
      },
    };
  };
  return releasing(place.release, () => {
    const taking = limiter.take(limitsOf(configured, caller, target, decision));
    return taking instanceof Promise ? taking.then(counted) : counted(taking);
  });
}

/** Calls `release` where `take` fails, now or later. */
function releasing<T>(release: () => void, take: () => T | Promise<T>): T | Promise<T> {
  const failed = (error: unknown): never => {
    release();
    throw error;
  };
  try {
    const taking = take();
    return taking instanceof Promise ? taking.catch(failed) : taking;
  } catch (error) {
    return failed(error);
  }
}

const UNCOUNTED = { ok: true, release: () => {} } as const;

type PlaceParts = Pick<Parts, 'limiter' | 'limits' | 'ruleLimits' | 'budgets' | 'metrics'>;

function limited(
  { limit, retryAfterMs }: Extract<Taken, { ok: false }>,
  rule: string,
  { limited: counter }: Parts['metrics'],
): OutriderError {
  const { dimension, unit } = limit;
  counter.inc({ dimension });
  return refused(
    'RATE_LIMITED',
    `too many ${unit} of the ${dimension}: wait for Retry-After`,
    'rate_limited',
    { retryAfterMs, ...(dimension === 'rule' ? { rule } : {}) },
  );
}

function usedUp(rule: string, retryAfterMs?: number): OutriderError {
  return refused('QUOTA_EXCEEDED', REASONS.budget_exhausted.text, 'budget_exhausted', {
    rule,
    ...(retryAfterMs === undefined ? {} : { retryAfterMs }),
  });
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
