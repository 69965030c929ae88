import {
  type ClientHttp2Session,
  type ClientHttp2Stream,
  connect,
  type SecureClientSessionOptions,
} from 'node:http2';
import { type SecureContext, TLSSocket } from 'node:tls';
import type { Dialer } from './dialer.ts';
import { routeKey, type UpstreamRoute } from './pools.ts';
import { malformed } from './refusal.ts';

/** One connection, with what is known of it. */
interface Session {
  readonly connection: Promise<ClientHttp2Session>;
  /** Requests under way. */
  open: number;
  idle: NodeJS.Timeout | undefined;
}

/** Connections of one route. */
const SESSIONS_MAX = 16;
/** Requests of one connection, where the other side does not want fewer. */
const STREAMS_MAX = 100;
const IDLE_MS = 30_000;
const STREAM_WINDOW_BYTES = 262_144;
const SESSION_WINDOW_BYTES = 4 * 1_048_576;

const OPTIONS = {
  maxSessionMemory: 64,
  maxReservedRemoteStreams: 0,
  settings: {
    enablePush: false,
    initialWindowSize: STREAM_WINDOW_BYTES,
    maxHeaderListSize: 65_536,
  },
} satisfies SecureClientSessionOptions;

/**
 * Connections over HTTP/2 to upstreams: https by ALPN, which must agree to h2, http by prior knowledge (RFC 9113, 3.3). Each dials only
 * the addresses that were checked for its route, and none is shared by two routes or two credentials.
 */
export class UpstreamSessions {
  readonly #routes = new Map<string, Set<Session>>();
  readonly #trust: SecureContext;
  readonly #connectTimeoutMs: number;
  readonly #dial: Dialer;

  constructor(options: { trust: SecureContext; connectTimeoutMs: number; dial: Dialer }) {
    this.#trust = options.trust;
    this.#connectTimeoutMs = options.connectTimeoutMs;
    this.#dial = options.dial;
  }

  /**
   * Sends the head of a request; its body is open unless `endStream`. `assertWanted` is asked at the last moment before.
   * @throws {OutriderError} UPSTREAM_UNREACHABLE; UPSTREAM_LOST where the other side does not speak HTTP/2; what `assertWanted` throws
   */
  async request(
    route: UpstreamRoute,
    headers: string[],
    endStream: boolean,
    assertWanted: () => void,
  ): Promise<ClientHttp2Stream> {
    const session = this.#sessionFor(route);
    session.open += 1;
    clearTimeout(session.idle);
    try {
      const connection = await session.connection;
      assertWanted();
      const stream = connection.request(headers, { endStream });
      stream.once('close', () => this.#released(session));
      return stream;
    } catch (error) {
      this.#released(session);
      throw error;
    }
  }

  /** Ends every connection, whatever is under way. */
  async close(): Promise<void> {
    const sessions = [...this.#routes.values()].flatMap((set) => [...set]);
    this.#routes.clear();
    for (const { connection, idle } of sessions) {
      clearTimeout(idle);
      await connection.then((session) => session.destroy()).catch(() => {});
    }
  }

  #sessionFor(route: UpstreamRoute): Session {
    const key = routeKey(route);
    const sessions = this.#routes.get(key) ?? new Set<Session>();
    this.#routes.set(key, sessions);
    const [free] = [...sessions].toSorted((a, b) => a.open - b.open);
    if (free && (free.open < STREAMS_MAX || sessions.size >= SESSIONS_MAX)) return free;
    const session: Session = { connection: this.#open(route), open: 0, idle: undefined };
    sessions.add(session);
    const forget = (): void => {
      sessions.delete(session);
      if (sessions.size === 0) this.#routes.delete(key);
    };
    session.connection.then((connection) => {
      // What is said goodbye to still ends what it has begun; new requests go elsewhere.
      connection.once('goaway', forget).once('close', forget);
      if (connection.closed || connection.destroyed) forget();
    }, forget);
    return session;
  }

  async #open(route: UpstreamRoute): Promise<ClientHttp2Session> {
    const { scheme, host, port, addresses, trust } = route;
    const context = trust?.context ?? this.#trust;
    const tls =
      scheme === 'https' ? { host, context, trustId: trust?.id, protocols: ['h2'] } : undefined;
    const socket = await this.#dial(host, addresses, {
      port,
      tls,
      timeoutMs: this.#connectTimeoutMs,
    });
    if (socket instanceof TLSSocket && socket.alpnProtocol !== 'h2') {
      socket.destroy();
      throw malformed('no h2 by ALPN');
    }
    const session = connect(`${scheme}://upstream`, { ...OPTIONS, createConnection: () => socket });
    session.on('error', () => {}); // its streams hear of it
    session.once('connect', () => session.setLocalWindowSize(SESSION_WINDOW_BYTES));
    return session;
  }

  #released(session: Session): void {
    session.open -= 1;
    if (session.open > 0) return;
    session.idle = setTimeout(() => {
      session.connection.then(
        (connection) => connection.close(),
        () => {},
      );
    }, IDLE_MS).unref();
  }
}
