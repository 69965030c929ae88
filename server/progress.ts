import type { ServerContext } from '@modelcontextprotocol/server';

const INTERVAL_MS = 5_000;

/**
 * Tells a client that asked for it (by a `progressToken`) every 5 s that its call still runs: `progress` counts the seconds,
 * `total` is the call's time limit where it names one. Returns what stops it. A client that is gone is not an error here.
 */
export function reportProgress(context: ServerContext, totalS: number | undefined): () => void {
  const { _meta: meta } = context.mcpReq;
  const progressToken = meta?.progressToken;
  if (progressToken === undefined) return () => {};
  let seconds = 0;
  const timer = setInterval(() => {
    seconds += INTERVAL_MS / 1_000;
    const params = {
      progressToken,
      progress: seconds,
      ...(totalS === undefined ? {} : { total: totalS }),
      message: `running for ${seconds} s`,
    };
    context.mcpReq.notify({ method: 'notifications/progress', params }).catch(() => {});
  }, INTERVAL_MS);
  return () => clearInterval(timer);
}
