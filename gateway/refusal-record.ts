import type { OutriderError } from '#core/errors';
import { type Principal, principalKey } from '#core/principal';
import { type Limits, RuleLimits } from '#policies';
import type { GatewayAudit } from './audit.ts';
import { traceIdOf } from './call-record.ts';

/** What is known of a request whose body was not read. */
export interface Unread {
  readonly requestId: string;
  readonly method: string | undefined;
  readonly traceparent: unknown;
  /** Absent where it was refused before that was known. */
  readonly principal?: Principal | undefined;
}

export interface RefusalRecorder {
  /** Never throws. */
  record(unread: Unread, error: OutriderError, durationMs: number): void;
  /** Records what was only counted so far. */
  close(): void;
}

/** Of one caller, and of all unknown ones together. Who is refused chooses how often, and a record is half a KiB of the audit's disk. */
const ONE_BY_ONE: Limits = { rate: { count: 1, perMs: 1_000 }, burst: 100 };
const SUMMARY_MS = 10_000;

/**
 * Records requests to MCP that were refused before their body was read, calls or not: who, as far as that was known, and with which code. Of
 * one caller's beyond 100 at once and one a second only the number is recorded, every 10 s, by code.
 */
export function createRefusalRecorder(
  audit: GatewayAudit,
  now: () => number = () => performance.now(),
): RefusalRecorder {
  const places = new RuleLimits();
  const counted = new Map<string, number>();
  let timer: NodeJS.Timeout | undefined;

  function sumUp(): void {
    clearTimeout(timer);
    timer = undefined;
    if (counted.size === 0) return;
    const total = [...counted.values()].reduce((sum, count) => sum + count, 0);
    const byCode = [...counted].map(([code, count]) => `${code} ${count}`).join(', ');
    counted.clear();
    audit.record({
      event: 'call',
      ingress: 'mcp',
      verdict: 'limit',
      reason: 'refusal_flood',
      code: 'RATE_LIMITED',
      detail: `${total} more requests were refused than are recorded one by one: ${byCode}`,
    });
  }

  return {
    record({ requestId, method, traceparent, principal }, error, durationMs) {
      const key = principal ? principalKey(principal) : '';
      const place = places.take(key, ONE_BY_ONE, now());
      if (!place.ok) {
        counted.set(error.code, (counted.get(error.code) ?? 0) + 1);
        timer ??= setTimeout(sumUp, SUMMARY_MS).unref();
        return;
      }
      place.release();
      const verdict = verdictOf(error);
      audit.record({
        event: 'call',
        requestId,
        traceId: traceIdOf(traceparent),
        issuer: principal?.issuer,
        subject: principal?.subject,
        tenant: principal?.tenant,
        ingress: 'mcp',
        method,
        verdict,
        reason: verdict === 'error' ? 'error' : 'denied',
        code: error.code,
        status: error.failure.http,
        durationMs: Math.round(durationMs),
      });
    },
    close: sumUp,
  };
}

function verdictOf({ code, failure }: OutriderError): 'deny' | 'limit' | 'error' {
  if (failure.http === 429) return 'limit';
  return isDenial(code, failure.http) ? 'deny' : 'error';
}

/** Whether a failure is a refusal of ours, and neither a fault nor the client's going away. */
export function isDenial(code: string, status: number): boolean {
  return status < 500 && code !== 'CANCELLED';
}
