import { type ErrorCode, OutriderError } from '#core/errors';
import { isReason, type NamedQuota, type Reason } from '#policies';

/** Why a call was refused, as the audit and the caller may know it. */
export interface Denial {
  readonly reason: Reason;
  readonly rule: string | null;
}

export interface RefusalDetails {
  readonly rule?: string | null;
  /** For the log alone. */
  readonly because?: unknown;
  readonly retryAfterMs?: number;
  /** Of the limit that refused it. */
  readonly quota?: NamedQuota | undefined;
  /** HTTP status of the answer in place of the code's. */
  readonly status?: number | undefined;
}

/** An error that carries a reason of the closed list. */
export function refused(
  code: ErrorCode,
  message: string,
  reason: Reason,
  { rule = null, because, retryAfterMs, quota, status }: RefusalDetails = {},
): OutriderError {
  return new OutriderError(code, message, {
    cause: new RefusalCause(reason, { rule, because, quota, status }),
    ...(retryAfterMs === undefined ? {} : { retryAfterMs }),
  });
}

/** An answer that is none. */
export function malformed(why: unknown): OutriderError {
  return refused(
    'UPSTREAM_LOST',
    'the other side did not answer as HTTP wants it',
    'upstream_malformed',
    { because: why },
  );
}

/** The HTTP status that an error of `refused` was given for itself. */
export function ownStatusOf({ cause }: OutriderError): number | undefined {
  return cause instanceof RefusalCause ? cause.status : undefined;
}

/** What the limit that an error of `refused` tells of leaves. */
export function quotaOf({ cause }: OutriderError): NamedQuota | undefined {
  return cause instanceof RefusalCause ? cause.quota : undefined;
}

/** The reason and rule that an error carries: from `refused`, or from a decision of the policy. */
export function denialOf(error: unknown): Denial | undefined {
  if (!(error instanceof OutriderError)) return undefined;
  const { cause } = error;
  if (typeof cause !== 'object' || cause === null || !('reason' in cause)) return undefined;
  const rule = 'rule' in cause && typeof cause.rule === 'string' ? cause.rule : null;
  return typeof cause.reason === 'string' && isReason(cause.reason)
    ? { reason: cause.reason, rule }
    : undefined;
}

class RefusalCause extends Error {
  override readonly name = 'Refusal';
  readonly reason: Reason;
  readonly rule: string | null;
  readonly status: number | undefined;
  readonly quota: NamedQuota | undefined;

  constructor(reason: Reason, { rule = null, because, quota, status }: RefusalDetails) {
    super(reason, because === undefined ? undefined : { cause: because });
    this.reason = reason;
    this.rule = rule;
    this.status = status;
    this.quota = quota;
  }
}
