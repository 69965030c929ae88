import { OutriderError } from '#core/errors';
import type { Http1Pool } from '#core/http1/client';
import { askWhole } from '#core/http1/whole';
import type { FlatHeaders } from './headers.ts';

/** What tells the other side that nobody waits for an answer any more. */
export interface Abandonment {
  readonly path: string;
  readonly body: string;
}

/** Nobody waits for this answer either. */
const BOUNDS = { timeoutMs: 5_000, maxBytes: 65_536 };

/**
 * Tells the other side to stop what a call began that has ended without its answer. Not where it could not be reached: there is nothing
 * to stop. Never fails and is not waited for; what cannot be stopped so ends by the limits that it was given.
 */
export function abandon(
  pool: Http1Pool,
  headers: FlatHeaders,
  { path, body }: Abandonment,
  why: unknown,
): void {
  if (why instanceof OutriderError && why.code === 'UPSTREAM_UNREACHABLE') return;
  const request = { method: 'POST', path, headers, body: Buffer.from(body) };
  askWhole(pool, request, BOUNDS).catch(() => {});
}
