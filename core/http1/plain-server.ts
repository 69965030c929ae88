import type { Server } from 'node:http';
import type { Socket } from 'node:net';
import { type PlainHead, PlainHeads } from './plain-head.ts';
import { PlainRequest } from './plain-request.ts';
import { type AnswerSide, PlainResponse } from './plain-response.ts';

/** How often idle connections are looked for. */
const SWEEP_MS = 1_000;
/** What a client says ahead of its turn is kept up to here; then it has to wait. */
const AHEAD_MAX_BYTES = 65_536;
const HEAD_END = '\r\n\r\n';

/**
 * Serves plain requests on connections of one of Node's servers, which gets the rest. A request that came as a whole, alone and in no doubt
 * (plain-head.ts) goes to the server's `request` listeners straight away, which takes half of what Node takes for it. At the first other
 * byte the connection is Node's, with everything that has not been answered, and stays so: whatever is long, slow, odd or wrong meets
 * llhttp and the server's own bounds and time-outs.
 *
 * `server.close()` ends connections here, too, that wait for another request, and `closeAllConnections()` all of them. A connection that says
 * nothing is closed after the server's `headersTimeout`, one without another request after its `keepAliveTimeout`, each up to two seconds late.
 */
export class PlainServer {
  readonly #server: Server;
  readonly #toNode: (socket: Socket) => void;
  readonly #headMaxBytes: number;
  readonly #open = new Set<PlainConnection>();
  #sweep: NodeJS.Timeout | undefined;

  /** `toNode` is what the server does with a connection. A head of more than `headMaxBytes` is not plain. */
  constructor(server: Server, toNode: (socket: Socket) => void, headMaxBytes: number) {
    this.#server = server;
    this.#toNode = toNode;
    this.#headMaxBytes = headMaxBytes;
    const closeIdle = server.closeIdleConnections.bind(server);
    const closeAll = server.closeAllConnections.bind(server);
    server.closeIdleConnections = () => {
      for (const connection of this.#open) connection.endIfIdle();
      closeIdle();
    };
    server.closeAllConnections = () => {
      for (const connection of this.#open) connection.destroy();
      closeAll();
    };
  }

  /** Of a server nobody has changed yet: from now on its connections come here first. */
  static of(server: Server, headMaxBytes: number): PlainServer {
    const [readHttp] = server.listeners('connection');
    const plain = new PlainServer(
      server,
      (socket) => void readHttp?.call(server, socket),
      headMaxBytes,
    );
    server
      .removeAllListeners('connection')
      .on('connection', (socket: Socket) => plain.accept(socket));
    return plain;
  }

  /** What has been read of it already is to be in it again. */
  accept(socket: Socket): void {
    const connection = new PlainConnection(socket, {
      server: this.#server,
      headMaxBytes: this.#headMaxBytes,
      onGone: () => this.#open.delete(connection),
      toNode: this.#toNode,
    });
    this.#open.add(connection);
    this.#sweep ??= setInterval(() => this.#closeIdle(), SWEEP_MS).unref();
  }

  #closeIdle(): void {
    const now = performance.now();
    for (const connection of this.#open) connection.sweep(now);
    if (this.#open.size > 0) return;
    clearInterval(this.#sweep);
    this.#sweep = undefined;
  }
}

interface ConnectionDeps {
  readonly server: Server;
  readonly headMaxBytes: number;
  readonly onGone: () => void;
  readonly toNode: (socket: Socket) => void;
}

class PlainConnection implements AnswerSide {
  readonly socket: Socket;
  readonly #deps: ConnectionDeps;
  readonly #heads = new PlainHeads();
  /** What is being answered. */
  #current: PlainResponse | undefined;
  /** What came meanwhile. */
  #ahead: Buffer | undefined;
  #hasServed = false;
  #idleSince = performance.now();

  constructor(socket: Socket, deps: ConnectionDeps) {
    this.socket = socket;
    this.#deps = deps;
    socket.on('data', this.#onBytes).on('end', this.#onEnd).on('drain', this.#onDrain);
    socket.on('close', this.#onClose).on('error', this.#onError);
    socket.resume();
  }

  get keepAliveS(): number {
    return Math.floor(this.#deps.server.keepAliveTimeout / 1_000);
  }

  over(response: PlainResponse): void {
    this.#current = undefined;
    if (!response.shouldKeepAlive) {
      this.socket.destroySoon();
      return;
    }
    this.#idleSince = performance.now();
    const ahead = this.#ahead;
    if (!ahead) return;
    this.#ahead = undefined;
    this.socket.resume();
    this.#onBytes(ahead);
  }

  sweep(now: number): void {
    if (this.#current) return;
    const { headersTimeout, keepAliveTimeout } = this.#deps.server;
    const kept = this.#hasServed ? keepAliveTimeout : headersTimeout;
    if (kept > 0 && now - this.#idleSince > kept + SWEEP_MS) this.socket.destroy();
  }

  /** The first request of a connection may be on its way: as Node does, that one is waited for. */
  endIfIdle(): void {
    if (this.#hasServed && !this.#current) this.socket.destroy();
  }

  destroy(): void {
    this.socket.destroy();
  }

  #take(bytes: Buffer): void {
    const headEnd = bytes.indexOf(HEAD_END);
    const head =
      headEnd < 0 || headEnd > this.#deps.headMaxBytes
        ? undefined
        : this.#heads.read(bytes.toString('latin1', 0, headEnd + 2));
    const bodyAt = headEnd + HEAD_END.length;
    if (head && bytes.length === bodyAt + head.fields.length)
      this.#serve(head, bytes.subarray(bodyAt));
    else this.#giveToNode(bytes);
  }

  #serve(head: PlainHead, body: Buffer): void {
    this.#hasServed = true;
    const request = new PlainRequest(head, body, this.socket);
    const response = new PlainResponse(request, this, head.fields.persists);
    this.#current = response;
    this.#deps.server.emit('request', request, response);
  }

  #giveToNode(bytes: Buffer): void {
    const { socket } = this;
    socket.off('data', this.#onBytes).off('end', this.#onEnd).off('drain', this.#onDrain);
    socket.off('close', this.#onClose).off('error', this.#onError);
    this.#deps.onGone();
    socket.pause();
    socket.unshift(bytes);
    this.#deps.toNode(socket);
    socket.resume();
  }

  readonly #onBytes = (bytes: Buffer): void => {
    if (!this.#current) {
      // Of what cannot be answered any more nothing may be done.
      if (this.socket.writable) this.#take(bytes);
      return;
    }
    this.#ahead = this.#ahead ? Buffer.concat([this.#ahead, bytes]) : bytes;
    if (this.#ahead.length > AHEAD_MAX_BYTES) this.socket.pause();
  };

  /** Who says nothing more does not wait for an answer either: Node takes it so, too. */
  readonly #onEnd = (): void => {
    this.#current?.sendWhole();
    this.socket.end();
  };

  readonly #onDrain = (): void => this.#current?.drained();

  readonly #onClose = (): void => {
    this.#deps.onGone();
    const response = this.#current;
    this.#current = undefined;
    response?.closed();
  };

  readonly #onError = (): void => void this.socket.destroy();
}
