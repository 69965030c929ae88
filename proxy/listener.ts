import type { Server } from 'node:http';
import {
  constants,
  createServer as createHttp2Server,
  type Http2Server,
  type Http2Session,
  type ServerHttp2Stream,
} from 'node:http2';
import { createServer as createTlsServer, type ServerOptions } from 'node:https';
import type { Socket } from 'node:net';
import type { TLSSocket } from 'node:tls';
import { closeServer } from '#core/http';
import type { HttpRequest } from '#core/http-exchange';
import { PlainServer } from '#core/http1/plain-server';
import { http2Head } from '#core/http2-head';
import { createServer } from '#core/node-http';
import { asksForWebSocket } from '#core/websocket';
import type { Handler } from './handler.ts';

/** An execution token with the assertion inside is about 2 KiB; the rest is the program's. */
const HEADER_MAX_BYTES = 32_768;
const HEADERS_TIMEOUT_MS = 10_000;
const REQUEST_TIMEOUT_MS = 600_000;
const KEEP_ALIVE_MS = 75_000;
const STREAMS_MAX = 1_024;
const STREAM_WINDOW_BYTES = 262_144;
const HEADER_FIELDS_MAX = 1_024;

/** A strict server for sidecars: node reads, `handler` decides. HTTP/1.1, and HTTP/2 on the same address: by prior knowledge (RFC 9113, 3.3), or by ALPN. */
export class Listener {
  readonly server: Server;
  readonly #http2: Http2Server;
  readonly #sessions = new Set<Http2Session>();
  /** Connections that have not said anything yet. */
  readonly #silent = new Set<Socket>();

  /** `tls`: every connection is a TLS one, whose ALPN says which version of HTTP it speaks. */
  constructor(handler: Handler, tls?: ServerOptions) {
    this.server = serveHttp1(
      tls
        ? createTlsServer({ ...HTTP1, ...tls, ALPNProtocols: ['h2', 'http/1.1'] })
        : createServer(HTTP1),
      handler,
    );
    this.#http2 = createHttp2Server({
      maxSessionMemory: 64,
      maxHeaderListPairs: HEADER_FIELDS_MAX,
      settings: {
        maxConcurrentStreams: STREAMS_MAX,
        maxHeaderListSize: HEADER_MAX_BYTES,
        initialWindowSize: STREAM_WINDOW_BYTES,
        enablePush: false,
      },
    });
    this.#http2.on('stream', (stream: ServerHttp2Stream, _headers, _flags, rawHeaders) => {
      stream.on('error', () => {}); // whoever serves it hears of its end by `close`
      const head = http2Head(rawHeaders);
      if (head) void handler.stream({ stream, head });
      else stream.close(constants.NGHTTP2_PROTOCOL_ERROR);
    });
    this.#http2.on('session', (session: Http2Session) => {
      this.#sessions.add(session);
      session.on('error', () => {}).once('close', () => this.#sessions.delete(session));
    });
    if (tls) this.#divideByAlpn();
    else this.#divideByPreface();
  }

  #divideByAlpn(): void {
    const plain = this.#plainBefore('secureConnection');
    this.server
      .removeAllListeners('secureConnection')
      .on('secureConnection', (socket: TLSSocket) => {
        if (socket.alpnProtocol === 'h2') this.#http2.emit('connection', socket);
        else plain.accept(socket);
      });
  }

  #divideByPreface(): void {
    const plain = this.#plainBefore('connection');
    this.server.removeAllListeners('connection').on('connection', (socket: Socket) =>
      this.#look(socket, (first) => {
        // RFC 9113, 3.4. No method of HTTP/1.1 begins so.
        if (first.subarray(0, 4).toString('latin1') === 'PRI ')
          this.#http2.emit('connection', socket); // it takes what has been read by itself
        else plain.accept(socket);
      }),
    );
  }

  /** Reads plain requests itself, and leaves the rest to who listens now. */
  #plainBefore(event: string): PlainServer {
    const { server } = this;
    const [readHttp] = server.listeners(event);
    const toNode = (socket: Socket): void => void readHttp?.call(server, socket);
    return new PlainServer(server, toNode, HEADER_MAX_BYTES);
  }

  /** Stops listening, lets requests that run end for `graceMs`, and cuts what is left. */
  async close(graceMs: number): Promise<void> {
    for (const socket of this.#silent) socket.destroy();
    for (const session of this.#sessions) session.close();
    const timer = setTimeout(() => {
      for (const session of this.#sessions) session.destroy();
    }, graceMs);
    await closeServer(this.server, graceMs);
    clearTimeout(timer);
  }

  /** Waits for the first bytes of a connection, which stay in it. */
  #look(socket: Socket, then: (first: Buffer) => void): void {
    const silent = (): void => void socket.destroy();
    this.#silent.add(socket);
    socket.once('error', silent).once('close', () => this.#silent.delete(socket));
    socket.setTimeout(HEADERS_TIMEOUT_MS, silent);
    socket.once('data', (first: Buffer) => {
      this.#silent.delete(socket);
      socket.setTimeout(0).off('timeout', silent).off('error', silent).pause();
      socket.unshift(first);
      then(first);
    });
  }
}

const HTTP1 = {
  insecureHTTPParser: false,
  // Node would refuse by itself, and without a record; `requestTarget` does it here.
  requireHostHeader: false,
  maxHeaderSize: HEADER_MAX_BYTES,
  headersTimeout: HEADERS_TIMEOUT_MS,
  requestTimeout: REQUEST_TIMEOUT_MS,
  keepAliveTimeout: KEEP_ALIVE_MS,
  shouldUpgradeCallback: ({ rawHeaders }: HttpRequest) => asksForWebSocket(rawHeaders),
};

function serveHttp1(server: Server, handler: Handler): Server {
  server.on('request', (request, response) => void handler.request(request, response, false));
  server.on('checkContinue', (request, response) => void handler.request(request, response, true));
  server.on(
    'checkExpectation',
    (request, response) => void handler.request(request, response, false),
  );
  server.on(
    'upgrade',
    (request, socket: Socket, head) => void handler.upgrade(request, socket, head),
  );
  server.on('connect', (request, socket, head) => void handler.connect(request, socket, head));
  server.on('clientError', (error, socket) => handler.malformed(error, socket));
  return server;
}
