import {
  constants,
  createServer,
  type Http2Server,
  Http2ServerRequest,
  type ServerHttp2Session,
  type ServerHttp2Stream,
} from 'node:http2';
import type { Socket } from 'node:net';
import { Refused } from './refusal.ts';

export interface Http2Deps {
  readonly headerBytes: number;
  readonly headerCount: number;
  readonly idleTimeoutMs: number;
  /** Takes a stream, and its readable side as a request of HTTP/1.1 would be. */
  readonly serve: (socket: Socket, request: Http2ServerRequest, stream: ServerHttp2Stream) => void;
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
 * any other. What nghttp2 itself resets has no record: Node has no event for it.
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
    this.#server.on('stream', (stream: ServerHttp2Stream, headers, _flags, rawHeaders) => {
      const socket = stream.session && this.#sockets.get(stream.session);
      if (!socket) stream.close(constants.NGHTTP2_REFUSED_STREAM);
      else deps.serve(socket, new Http2ServerRequest(stream, headers, {}, rawHeaders), stream);
    });
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
    let [resets, atOnce] = [0, 0];
    session.on('stream', (stream) => {
      stream.on('error', () => {}); // its request hears of it, too
      stream.once('aborted', () => (resets += 1));
      if (atOnce === 0) setImmediate(() => (atOnce = 0));
      // More than may be open can only come at once where those before them were reset.
      if ((atOnce += 1) > STREAMS_MAX) resets = RESET_BURST;
      if (resets >= RESET_BURST)
        session.destroy(new Error('too many resets'), constants.NGHTTP2_ENHANCE_YOUR_CALM);
    });
    session.setTimeout(this.#deps.idleTimeoutMs, () => session.close());
    session.once('error', (cause) => {
      const reason = resets >= RESET_BURST ? 'h2_reset_flood' : 'h2_control_flood';
      this.#deps.refuse(new Refused(reason, { cause }));
    });
  }
}
