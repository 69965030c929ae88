import { Pool } from 'undici';

/** One server behind the gateway, and where it stands. */
export interface Upstream extends ServerPlace {
  readonly pool: Pool;
  /** Of `url`. */
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
/** Far below the 5 s after which Node servers close an idle connection, so that none is used in the moment it dies: undici counts in half seconds, and slower on a busy machine. */
const KEEP_ALIVE_MS = 2_500;

export function connectUpstream(place: ServerPlace, label: string): Upstream {
  const servername = place.host?.replace(/:\d+$/, '');
  const pool = new Pool(place.url.origin, {
    // An event stream may be silent for as long as it lives: how long is up to its two ends.
    headersTimeout: 0,
    bodyTimeout: 0,
    connect: {
      timeout: CONNECT_TIMEOUT_MS,
      ...(servername === undefined ? {} : { servername }),
    },
    keepAliveTimeout: KEEP_ALIVE_MS,
    keepAliveMaxTimeout: KEEP_ALIVE_MS,
    pipelining: 1,
    allowH2: false,
  });
  return { ...place, pool, path: place.url.pathname, label };
}
