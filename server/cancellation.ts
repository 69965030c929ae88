import { createHash } from 'node:crypto';
import type { McpServer, RequestId } from '@modelcontextprotocol/server';
import { toOutriderError } from '#core/errors';
import { isIdSpace } from '#core/ids';
import type { Logger } from '#core/log';
import type { RunContext, Runner } from './runner-client.ts';

/** Who cancels, and what its ids belong to. */
type Canceller = Omit<RunContext, 'deadlineMs' | 'signal'> & {
  readonly idSpace: string | undefined;
};

/** A client hardly waits for it, and a runner that is slower has lost it. */
const CANCEL_WITHIN_MS = 1_500;

/**
 * Clients of the session era cancel a call by its JSON-RPC id in a request of its own, which comes to any replica. Ids are numbers from 0
 * on, so they name a call only together with the principal and the id space that the answer to `initialize` gave the client. A client
 * that does not send its id space cancels nothing.
 */
export function cancelKeyOf({ idSpace }: Pick<Canceller, 'idSpace'>, id: RequestId): string {
  if (idSpace === undefined) return '';
  return createHash('sha256')
    .update(JSON.stringify([idSpace, id]))
    .digest('base64url');
}

/** The id space that a request came with; undefined where it came with none of ours. */
export function idSpaceOf(headers: Headers | undefined): string | undefined {
  const said = headers?.get('mcp-session-id');
  return isIdSpace(said) ? said : undefined;
}

/**
 * Passes `notifications/cancelled` (up to 2025-11-25) on to whichever runner has the call. One that is not at a runner yet, or is no program,
 * goes on.
 */
export function hearCancellations(
  server: McpServer,
  runner: Pick<Runner, 'cancel'>,
  caller: Canceller,
  log: Logger,
): void {
  server.server.setNotificationHandler('notifications/cancelled', async ({ params }) => {
    if (params.requestId === undefined) return;
    const context = {
      ...caller,
      deadlineMs: CANCEL_WITHIN_MS,
      signal: AbortSignal.timeout(CANCEL_WITHIN_MS),
    };
    try {
      await runner.cancel(cancelKeyOf(caller, params.requestId), context);
    } catch (error) {
      log.warn('a call could not be cancelled', {
        requestId: caller.requestId,
        error: toOutriderError(error),
      });
    }
  });
}
