import { askWhole, LateError } from '#core/http1/whole';
import type { Logger } from '#core/log';
import type { Balancer } from './balancer.ts';
import type { Health } from './circuit.ts';
import type { Upstream } from './upstream.ts';

/** A stopped process still takes connections: only an answer is a sign of life. */
const ANSWERS_WITHIN_MS = 2_000;
const ANSWER_MAX_BYTES = 2 ** 20;

/** One that was about to stop is looked at more often: a restart takes a second. */
const LEAVING_EVERY_MS = 500;

/** What every revision answers without a session, if only by saying that it does not know it. */
const CHECK = Buffer.from(
  JSON.stringify({
    jsonrpc: '2.0',
    id: 'health',
    method: 'server/discover',
    params: {
      _meta: {
        'io.modelcontextprotocol/protocolVersion': '2026-07-28',
        'io.modelcontextprotocol/clientCapabilities': {},
      },
    },
  }),
);

const HEADERS = Object.entries({
  'content-type': 'application/json',
  accept: 'application/json, text/event-stream',
  'mcp-protocol-version': '2026-07-28',
  'mcp-method': 'server/discover',
}).flat();

/**
 * Asks each server every `intervalMs` whether it answers MCP, and tells the balancer. One that refuses the gateway's own
 * `authorization` cannot serve either. One that has left is asked for the sake of its sessions, without that and without a word in the log:
 * it may stop. One that was about to stop is asked every half second whether it is ready again. Returns what ends it.
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
  /** Resolves to what was found where that changes what is thought of the server. */
  const ask = async (
    upstream: Upstream,
    word?: typeof authorization,
  ): Promise<Health | undefined> => {
    const { href } = upstream.url;
    if (busy.has(href)) return undefined;
    busy.add(href);
    const health = await healthOf(upstream, ANSWERS_WITHIN_MS, await word?.());
    busy.delete(href);
    return balancer.checked(upstream, health) ? health : undefined;
  };
  const look = async (upstream: Upstream): Promise<void> => {
    const health = await ask(upstream, authorization);
    if (health === undefined) return;
    const detail = { backend: upstream.label };
    if (health === 'sound') log.info('a server is back', { detail });
    else log.warn('a server is out: three checks have failed', { detail });
  };
  const lookForReturn = async (upstream: Upstream): Promise<void> => {
    if (await isReady(upstream, ANSWERS_WITHIN_MS)) balancer.leaves(upstream, false);
  };
  const timers = [
    setInterval(() => {
      for (const upstream of balancer.upstreams) void look(upstream);
      for (const upstream of balancer.left) void ask(upstream);
    }, intervalMs).unref(),
    setInterval(() => {
      for (const upstream of balancer.leaving) void lookForReturn(upstream);
    }, LEAVING_EVERY_MS).unref(),
  ];
  return () => timers.forEach(clearInterval);
}

/** Whether a server of ours says within a time that it can serve. Never rejects. */
export async function isReady({ pool, host }: Upstream, withinMs: number): Promise<boolean> {
  try {
    const headers = host === undefined ? [] : ['host', host];
    const { status } = await askWhole(
      pool,
      { method: 'GET', path: '/readyz', headers },
      { timeoutMs: withinMs, maxBytes: ANSWER_MAX_BYTES },
    );
    return status === 200;
  } catch {
    return false;
  }
}

/** Whether a server answers MCP within a time. Never rejects. */
export async function isSound(upstream: Upstream, withinMs: number): Promise<boolean> {
  return (await healthOf(upstream, withinMs)) === 'sound';
}

/**
 * Whether a server answers MCP within a time, also to `authorization` where that is given. One that refuses the connection, or breaks it, is
 * not silent: it may be one that ends what it has before it stops. Never rejects.
 */
async function healthOf(
  { pool, path, host }: Upstream,
  withinMs: number,
  authorization?: string,
): Promise<Health> {
  try {
    const headers = [
      ...HEADERS,
      ...(host === undefined ? [] : ['host', host]),
      ...(authorization === undefined ? [] : ['authorization', `Bearer ${authorization}`]),
    ];
    const { status } = await askWhole(
      pool,
      { method: 'POST', path, headers, body: CHECK },
      { timeoutMs: withinMs, maxBytes: ANSWER_MAX_BYTES },
    );
    const refused = status === 401 && authorization !== undefined;
    return status < 500 && !refused ? 'sound' : 'unsound';
  } catch (error) {
    return isSilence(error) ? 'silent' : 'unsound';
  }
}

/** Of the machine, too: it cannot be reached, and says nothing of its connections either. */
const NO_WAY: ReadonlySet<unknown> = new Set([
  'ETIMEDOUT',
  'EHOSTUNREACH',
  'ENETUNREACH',
  'EHOSTDOWN',
]);

function isSilence(error: unknown): boolean {
  return (
    error instanceof LateError ||
    (error instanceof Error && 'code' in error && NO_WAY.has(error.code))
  );
}
