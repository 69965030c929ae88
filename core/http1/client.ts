import type { Socket } from 'node:net';
import { Readable } from 'node:stream';
import { atTurnEnd } from '../turn-end.ts';
import { Connection, type Timeouts } from './connection.ts';
import { Http1Error } from './error.ts';
import { asError, Exchange, tellError } from './exchange.ts';
import type { Http1Handler, Http1Request } from './request.ts';

export { Http1Error, type Http1ErrorCode } from './error.ts';
export type { Http1Controller, Http1Handler, Http1Request } from './request.ts';

/** Makes a connection; its error is told to whoever waits as it is. */
export type Http1Connector = (done: (error: Error | null, socket: Socket | null) => void) => void;

export interface Http1PoolOptions {
  readonly connect: Http1Connector;
  /** `Host` where a request has none. */
  readonly host?: string;
  /** How many at once; default: as many as there are requests. */
  readonly connections?: number;
  /** For the head of an answer, from when the request is written, and before that for a connection to be free; 0: for ever. */
  readonly headersTimeoutMs: number;
  /** For silence within its body; 0: for ever. */
  readonly bodyTimeoutMs: number;
  /** How long a connection without a request is kept; the other side's `Keep-Alive: timeout` may make it less. */
  readonly idleMs: number;
  /** Of the head of an answer, and of its trailers; default 16 KiB. */
  readonly headMaxBytes?: number;
}

/** How often time-outs are looked at, in each of them. */
const TICKS = 8;
const TICK_MIN_MS = 5;
const TICK_MAX_MS = 500;
const HEAD_MAX_BYTES = 16_384;

/**
 * An HTTP/1.1 client (RFC 9112) of one place, for the path of every request: one request at a time on a connection, the last used
 * connection first. A connection is used again only where nothing about it is in doubt. Nothing is sent twice, no redirect followed.
 *
 * Answers are read more strictly than by other clients (answer-head.ts, answer-parser.ts): what any of them reads otherwise is MALFORMED
 * here, which `npm run fuzz -- answers` holds against llhttp, undici and Python. Time-outs come late by an eighth of the pool's shortest, and by
 * half a second at most.
 */
export class Http1Pool {
  readonly #connect: Http1Connector;
  readonly #connections: number;
  readonly #timeouts: Timeouts;
  readonly #host: string;
  readonly #headMaxBytes: number;
  readonly #tickMs: number;
  readonly #waitMs: number;
  readonly #all = new Set<Connection>();
  /** The last used at the end. */
  readonly #idle: Connection[] = [];
  readonly #waiting: Exchange[] = [];
  /** Free since this turn of the loop, and since the one before. */
  #resting: Connection[] = [];
  #rested: Connection[] = [];
  #isTurning = false;
  #isDestroyed = false;
  #connecting = 0;
  #timer: NodeJS.Timeout | undefined;
  #closed: Promise<void> | undefined;
  /** Ends that promise. */
  #onClosed = (): void => {};

  constructor(options: Http1PoolOptions) {
    const { connect, connections = Infinity, host = '', headMaxBytes = HEAD_MAX_BYTES } = options;
    const { headersTimeoutMs, bodyTimeoutMs, idleMs } = options;
    this.#connect = connect;
    this.#connections = connections;
    this.#host = host;
    this.#headMaxBytes = headMaxBytes;
    const shortest = Math.min(...[headersTimeoutMs, bodyTimeoutMs, idleMs].filter(Boolean));
    this.#tickMs = Math.min(TICK_MAX_MS, Math.max(TICK_MIN_MS, Math.floor(shortest / TICKS)));
    this.#waitMs = headersTimeoutMs || Infinity;
    this.#timeouts = {
      headTicks: Math.ceil(headersTimeoutMs / this.#tickMs) || Infinity,
      bodyTicks: Math.ceil(bodyTimeoutMs / this.#tickMs) || Infinity,
      idleMs,
    };
  }

  /** Requests that wait or are under way. */
  get busy(): number {
    return this.#waiting.length + [...this.#all].filter(({ busy }) => busy).length;
  }

  /** Never throws: what is wrong with the request is told to the handler, too. */
  dispatch(request: Http1Request, handler: Http1Handler): void {
    let exchange: Exchange;
    try {
      if (this.#closed) throw aborted();
      exchange = new Exchange(request, handler, this.#host);
    } catch (error) {
      if (request.body instanceof Readable) request.body.on('error', () => {}).destroy();
      tellError(handler, asError(error));
      return;
    }
    const now = performance.now();
    // The timer may be late: then it would be the other side that ends it, with the request under way.
    for (let idle = this.#idle.pop(); idle; idle = this.#idle.pop()) {
      if (idle.isFresh(now)) return idle.begin(exchange);
      idle.destroy(aborted());
    }
    exchange.waitsUntil = now + this.#waitMs;
    this.#waiting.push(exchange);
    this.#watch();
    this.#widen();
  }

  /** New requests fail with ABORTED. Resolves when those under way have ended. */
  close(): Promise<void> {
    this.#closed ??= new Promise((resolve) => {
      this.#onClosed = resolve;
    });
    for (const connection of this.#idle.splice(0)) connection.destroy(aborted());
    this.#settle();
    return this.#closed;
  }

  /** Ends what is under way with ABORTED. */
  destroy(): Promise<void> {
    this.#isDestroyed = true;
    const closed = this.close();
    for (const exchange of this.#waiting.splice(0)) exchange.fail(aborted());
    for (const connection of this.#all) connection.destroy(aborted());
    this.#settle();
    return closed;
  }

  /** One more connection for who waits, where there may be one. */
  #widen(): void {
    const room = this.#all.size + this.#connecting < this.#connections;
    const coming = this.#connecting + this.#resting.length + this.#rested.length;
    if (!room || coming >= this.#waiting.length) return;
    this.#connecting += 1;
    try {
      this.#connect((error, socket) =>
        this.#connected(socket?.destroyed === false ? socket : asError(error ?? dead())),
      );
    } catch (error) {
      this.#connected(asError(error));
    }
  }

  #connected(made: Socket | Error): void {
    this.#connecting -= 1;
    if (this.#isDestroyed) {
      if (!(made instanceof Error)) made.on('error', () => {}).destroy();
      return;
    }
    if (made instanceof Error) this.#waiting.shift()?.fail(made);
    else this.#add(made);
    this.#widen();
    this.#settle();
  }

  #add(socket: Socket): void {
    const connection = new Connection(socket, {
      headMaxBytes: this.#headMaxBytes,
      timeouts: this.#timeouts,
      onFree: () => this.#rest(connection),
      onGone: () => this.#onGone(connection),
    });
    this.#all.add(connection);
    this.#watch();
    this.#use(connection);
  }

  #watch(): void {
    this.#timer ??= setInterval(() => this.#tick(), this.#tickMs).unref();
  }

  /**
   * What an answer left behind may be there and not read yet, and must not answer the next request: a connection rests until whatever was
   * there has been read.
   */
  #rest(connection: Connection): void {
    this.#resting.push(connection);
    if (this.#isTurning) return;
    this.#isTurning = true;
    atTurnEnd(this.#onTurn);
  }

  /** After the poll phase of this turn, which may have begun before they rested, and that of the next. */
  readonly #onTurn = (): void => {
    const rested = this.#rested;
    this.#rested = this.#resting;
    this.#resting = [];
    this.#isTurning = this.#rested.length > 0;
    if (this.#isTurning) atTurnEnd(this.#onTurn);
    for (const connection of rested) if (this.#all.has(connection)) this.#use(connection);
  };

  #use(connection: Connection): void {
    const next = this.#waiting.shift();
    if (next) connection.begin(next);
    else if (this.#closed) connection.destroy(aborted());
    else this.#idle.push(connection);
  }

  #onGone(connection: Connection): void {
    this.#all.delete(connection);
    const at = this.#idle.indexOf(connection);
    if (at >= 0) this.#idle.splice(at, 1);
    this.#resting = this.#resting.filter((each) => each !== connection);
    this.#rested = this.#rested.filter((each) => each !== connection);
    this.#widen();
    this.#settle();
  }

  #tick(): void {
    const now = performance.now();
    for (const connection of this.#all) connection.tick(now);
    // Those for whom a connection is being made wait for that, which has a time of its own.
    while (this.#waiting.length > this.#connecting && (this.#waiting[0]?.waitsUntil ?? now) <= now)
      this.#waiting.shift()?.fail(allBusy());
    this.#settle();
  }

  #settle(): void {
    if (this.#all.size + this.#waiting.length === 0) {
      clearInterval(this.#timer);
      this.#timer = undefined;
    }
    // Who destroys it does not wait for a connection that nobody will use.
    const connecting = this.#isDestroyed ? 0 : this.#connecting;
    if (this.#closed && this.#all.size + connecting + this.#waiting.length === 0) this.#onClosed();
  }
}

function dead(): Http1Error {
  return new Http1Error('CLOSED', 'the connection was closed');
}

function allBusy(): Http1Error {
  return new Http1Error('BUSY', 'every connection was busy for too long');
}

function aborted(): Http1Error {
  return new Http1Error('ABORTED', 'the pool was closed');
}
