import {
  constants,
  createServer,
  type Http2Server,
  type Http2ServerRequest,
  type Http2ServerResponse,
  type ServerHttp2Session,
} from 'node:http2';
import type { Socket } from 'node:net';
import type { ProgramRequest, ProgramResponse } from './program-side.ts';
import { Refused } from './refusal.ts';

export interface Http2Deps {
  readonly headerBytes: number;
  readonly headerCount: number;
  readonly idleTimeoutMs: number;
  readonly serve: (socket: Socket, request: ProgramRequest, response: ProgramResponse) => void;
  /** Told of a connection that was cut for what it did. */
  readonly refuse: (refused: Refused) => void;
}

/** Requests of one connection at once. */
const STREAMS_MAX = 100;
/** Streams that a client may reset at once, and a second (CVE-2023-44487). */
const RESET_BURST = 200;
const RESET_RATE = 20;
/** For a client that does not read its answers. */
const SESSION_MEMORY_MIB = 4;
const INVALID_FRAMES_MAX = 20;
const PSEUDO_HEADERS = 4;

/**
 * Reads HTTP/2 from connections whose TLS ends here. nghttp2 checks framing, HPACK and floods; every stream is then a request like
 * any other.
 */
export class Http2Door {
  readonly #deps: Http2Deps;
  readonly #server: Http2Server;
  readonly #sockets = new WeakMap<object, Socket>();

  constructor(deps: Http2Deps) {
    this.#deps = deps;
    this.#server = createServer({
      maxSessionMemory: SESSION_MEMORY_MIB,
      maxHeaderListPairs: deps.headerCount + PSEUDO_HEADERS,
      maxSessionInvalidFrames: INVALID_FRAMES_MAX,
      streamResetBurst: RESET_BURST,
      streamResetRate: RESET_RATE,
      settings: {
        maxConcurrentStreams: STREAMS_MAX,
        maxHeaderListSize: deps.headerBytes,
        enablePush: false,
      },
    });
    const onRequest = (request: Http2ServerRequest, response: Http2ServerResponse): void => {
      const socket = request.stream.session && this.#sockets.get(request.stream.session);
      if (socket) deps.serve(socket, request, response);
      else request.stream.close(constants.NGHTTP2_REFUSED_STREAM);
    };
    this.#server
      .on('request', onRequest)
      .on('checkContinue', onRequest)
      .on('checkExpectation', onRequest);
  }

  /** Serves a connection on which HTTP/2 was agreed, until it ends. */
  accept(socket: Socket): void {
    this.#server.once('session', (session: ServerHttp2Session) => {
      this.#sockets.set(session, socket);
      this.#watch(session);
    });
    this.#server.emit('connection', socket); // its session is there when this returns
  }

  #watch(session: ServerHttp2Session): void {
    let resets = 0;
    session.on('stream', (stream) => {
      stream.on('error', () => {}); // its request hears of it, too
      stream.once('aborted', () => (resets += 1));
    });
    session.setTimeout(this.#deps.idleTimeoutMs, () => session.close());
    session.once('error', (cause) => {
      const reason = resets >= RESET_BURST ? 'h2_reset_flood' : 'h2_control_flood';
      this.#deps.refuse(new Refused(reason, { cause }));
    });
  }
}

/**
 * The headers of a stream as HTTP/1.1 would have them: without pseudo headers, `:authority` as the Host in front. Undefined where
 * `:authority` and a Host header name two hosts (RFC 9113, 8.3.1).
 */
export function plainHeaders(rawHeaders: readonly string[]): string[] | undefined {
  const plain: string[] = [];
  let authority: string | undefined;
  let host: string | undefined;
  for (let at = 0; at < rawHeaders.length; at += 2) {
    const [name = '', value = ''] = [rawHeaders[at], rawHeaders[at + 1]];
    if (name === ':authority') authority = value;
    else if (name === 'host') host = value;
    else if (!name.startsWith(':')) plain.push(name, value);
  }
  if (authority !== undefined && host !== undefined && authority !== host) return undefined;
  const named = authority ?? host;
  return named === undefined ? plain : ['host', named, ...plain];
}
