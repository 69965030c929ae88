import type { Logger } from '#core/log';
import type { Balancer } from './balancer.ts';
import type { Upstream } from './upstream.ts';

/** A stopped process still takes connections: only an answer is a sign of life. */
const ANSWERS_WITHIN_MS = 2_000;

/** What every revision answers without a session, if only by saying that it does not know it. */
const CHECK = JSON.stringify({
  jsonrpc: '2.0',
  id: 'health',
  method: 'server/discover',
  params: {
    _meta: {
      'io.modelcontextprotocol/protocolVersion': '2026-07-28',
      'io.modelcontextprotocol/clientCapabilities': {},
    },
  },
});

const HEADERS = {
  'content-type': 'application/json',
  accept: 'application/json, text/event-stream',
  'mcp-protocol-version': '2026-07-28',
  'mcp-method': 'server/discover',
};

/**
 * Asks each server every `intervalMs` whether it answers MCP, and tells the balancer. One that refuses the gateway's own
 * `authorization` cannot serve either. Returns what ends it.
 */
export function startHealthChecks(
  balancer: Balancer,
  options: {
    readonly intervalMs: number;
    readonly authorization: () => Promise<string | undefined>;
    readonly log: Logger;
  },
): () => void {
  const { intervalMs, authorization, log } = options;
  const busy = new Set<string>();
  const look = async (upstream: Upstream): Promise<void> => {
    const { href } = upstream.url;
    if (busy.has(href)) return;
    busy.add(href);
    const sound = await isSound(upstream, ANSWERS_WITHIN_MS, await authorization());
    busy.delete(href);
    if (!balancer.checked(upstream, sound)) return;
    const detail = { backend: upstream.label };
    if (sound) log.info('a server is back', { detail });
    else log.warn('a server is out: three checks have failed', { detail });
  };
  const timer = setInterval(() => {
    for (const upstream of balancer.upstreams) void look(upstream);
  }, intervalMs).unref();
  return () => clearInterval(timer);
}

/** Whether a server answers MCP within a time, also to `authorization` where that is given. Never rejects. */
export async function isSound(
  { pool, url, host }: Upstream,
  withinMs: number,
  authorization?: string,
): Promise<boolean> {
  try {
    const { statusCode, body } = await pool.request({
      method: 'POST',
      path: url.pathname,
      headers: {
        ...HEADERS,
        ...(host === undefined ? {} : { host }),
        ...(authorization === undefined ? {} : { authorization: `Bearer ${authorization}` }),
      },
      body: CHECK,
      signal: AbortSignal.timeout(withinMs),
    });
    await body.dump();
    return statusCode < 500 && !(statusCode === 401 && authorization !== undefined);
  } catch {
    return false;
  }
}
