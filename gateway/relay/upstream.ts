import { Http1Pool } from '#core/http1/client';
import { connector } from '#core/http1/connect';

/** One server behind the gateway, and where it stands. */
export interface Upstream extends ServerPlace {
  readonly pool: Http1Pool;
  /** Of `url`, with its query: some servers want a key there. */
  readonly path: string;
  /** The label in metrics: a small number, since an address is no label. */
  readonly label: string;
}

/** A server as the configuration or its name in DNS says it. */
export interface ServerPlace {
  /** The URL of its MCP endpoint, with an address: the same on every gateway. */
  readonly url: URL;
  /** What it is called, where that is not the host of `url`: `name` or `name:port`. */
  readonly host?: string | undefined;
  /** Its share of what is new, relative to the others'. */
  readonly weight: number;
  /** Gets nothing new. */
  readonly draining: boolean;
}

const CONNECT_TIMEOUT_MS = 2_000;
/** Far below the 5 s after which Node servers close an idle connection, so that none is used in the moment it dies, also on a busy machine. */
const KEEP_ALIVE_MS = 2_500;

export function connectUpstream(place: ServerPlace, label: string): Upstream {
  const { protocol, hostname, host, port, pathname, search } = place.url;
  const at = hostname.replace(/^\[|\]$/g, '');
  const name = place.host?.replace(/:\d+$/, '') ?? at;
  const isTls = protocol === 'https:';
  const pool = new Http1Pool({
    connect: connector(
      { host: at, port: port === '' ? (isTls ? 443 : 80) : Number(port) },
      { timeoutMs: CONNECT_TIMEOUT_MS, tls: isTls ? { name } : undefined },
    ),
    host,
    // An event stream may be silent for as long as it lives: how long is up to its two ends.
    headersTimeoutMs: 0,
    bodyTimeoutMs: 0,
    idleMs: KEEP_ALIVE_MS,
  });
  return { ...place, pool, path: pathname + search, label };
}
