import type { Dispatcher } from 'undici';
import { OutriderError } from '#core/errors';
import type { FlatHeaders } from './headers.ts';

/** What tells the other side that nobody waits for an answer any more. */
export interface Abandonment {
  readonly path: string;
  readonly body: string;
}

/** Nobody waits for this answer either. */
const TIMEOUT_MS = 5_000;

/**
 * Tells the other side to stop what a call began that has ended without its answer. Not where it could not be reached: there is nothing
 * to stop. Never fails and is not waited for; what cannot be stopped so ends by the limits that it was given.
 */
export function abandon(
  dispatcher: Dispatcher,
  headers: FlatHeaders,
  { path, body }: Abandonment,
  why: unknown,
): void {
  if (why instanceof OutriderError && why.code === 'UPSTREAM_UNREACHABLE') return;
  dispatcher
    .request({
      method: 'POST',
      path,
      headers,
      body,
      headersTimeout: TIMEOUT_MS,
      bodyTimeout: TIMEOUT_MS,
    })
    .then(({ body: answer }) => answer.dump())
    .catch(() => {});
}
