import type { OutriderError } from '#core/errors';
import { type AllowDecision, REASONS, type Target } from '#policies';
import type { Caller } from './authority.ts';
import type { CountedIn, CountedOut } from './counts.ts';
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
 * policy. All sandboxes of a tenant's role share the places of one rule. A promise only where the counting must be waited for.
 * @throws {OutriderError} RATE_LIMITED, QUOTA_EXCEEDED, with the time to wait
 */
export function takePlace(
  { counts, limits: configured, metrics }: PlaceParts,
  caller: Caller,
  target: Target,
  decision: AllowDecision,
): TakenPlace | Promise<TakenPlace> {
  const { identity, role, set } = caller;
  const { policy, rule, limits, credential } = decision;
  const { tenant } = identity.principal;
  const { concurrent } = limits;
  const placed = (counted: CountedIn | CountedOut): TakenPlace => {
    if (!counted.ok) throw countedOut(counted, rule, metrics);
    return {
      release: counted.release,
      spend: (bytes) => (counted.spend(bytes) ? undefined : usedUp(rule)),
    };
  };
  const taking = counts.take({
    limits: limitsOf(configured, caller, target, decision),
    concurrent:
      concurrent === undefined
        ? undefined
        : { key: JSON.stringify([tenant, role, policy, rule]), max: concurrent },
    budgets: set.budgets.get(policy) ?? [],
    spender: {
      tenant,
      role,
      sandbox: identity.execution.sandboxId,
      credential: credential ?? '',
    },
  });
  return taking instanceof Promise ? taking.then(placed) : placed(taking);
}

type PlaceParts = Pick<Parts, 'counts' | 'limits' | 'metrics'>;

function countedOut(
  { dimension, unit, retryAfterMs, quota }: CountedOut,
  rule: string,
  { limited: counter }: Parts['metrics'],
): OutriderError {
  counter.inc({ dimension });
  if (dimension === 'budget') return usedUp(rule, retryAfterMs);
  if (dimension === 'concurrency')
    return refused('RATE_LIMITED', REASONS.concurrency_limited.text, 'concurrency_limited', {
      rule,
      retryAfterMs,
    });
  return refused(
    'RATE_LIMITED',
    `too many ${unit} of the ${dimension}: wait for Retry-After`,
    'rate_limited',
    {
      retryAfterMs,
      quota: quota && { name: dimension === 'rule' ? rule : dimension, quota },
      ...(dimension === 'rule' ? { rule } : {}),
    },
  );
}

function usedUp(rule: string, retryAfterMs?: number): OutriderError {
  return refused('QUOTA_EXCEEDED', REASONS.budget_exhausted.text, 'budget_exhausted', {
    rule,
    ...(retryAfterMs === undefined ? {} : { retryAfterMs }),
  });
}

/** @throws {OutriderError} BODY_TOO_LARGE where the head says already that the body will be */
export function assertBodyFits(
  contentLength: string | undefined,
  { limits: { requestBytes }, rule }: Pick<AllowDecision, 'limits' | 'rule'>,
): void {
  if (Number(contentLength ?? 0) > (requestBytes ?? Number.POSITIVE_INFINITY))
    throw requestTooLarge(rule);
}

export function requestTooLarge(rule: string): OutriderError {
  return refused('BODY_TOO_LARGE', REASONS.body_too_large.text, 'body_too_large', { rule });
}

/** It is the other side that went too far: 502, not the 413 that blames the caller. */
export function answerTooLarge(rule: string): OutriderError {
  return refused('BODY_TOO_LARGE', 'the answer is larger than the rule allows', 'body_too_large', {
    rule,
    status: 502,
  });
}
