import { Readable } from 'node:stream';
import type { Http1Controller, Http1Handler, Http1Request } from './request.ts';
import { type Framing, requestHead } from './request-head.ts';

/** The connection that a request is under way on. */
export interface Carrier {
  pause(): void;
  resume(): void;
  /** Ends it, if this request is what it is busy with. */
  drop(exchange: Exchange): void;
}

/** One request: what goes out, who hears of its answer, and its connection once it has one. */
export class Exchange implements Http1Controller {
  readonly handler: Http1Handler;
  readonly method: string;
  readonly upgrades: boolean;
  readonly body: Buffer | Readable | undefined;
  /** The head as it goes out. */
  readonly head: string;
  readonly framing: Framing;
  /** Until when it waits for a connection to be free, by `performance.now()`. */
  waitsUntil = Infinity;
  #connection: Carrier | undefined;
  #over = false;

  /** @throws {Http1Error} ARGUMENT */
  constructor(request: Http1Request, handler: Http1Handler, host: string) {
    const { method, upgrade, body } = request;
    if (body instanceof Readable) {
      if (body.destroyed && !body.readableEnded)
        throw body.errored ?? new Error('the body is gone');
      // From now on: it may fail while the request waits for a connection, and when nobody needs it any more.
      body.on('error', (error) => this.abort(error));
    }
    const framing = body instanceof Readable ? 'chunked' : body?.length;
    const head = requestHead(request, { framing, host });
    this.head = head.text;
    this.framing = head.framing;
    this.handler = handler;
    this.method = method;
    this.upgrades = Boolean(upgrade);
    this.body = body ?? undefined;
  }

  get over(): boolean {
    return this.#over;
  }

  /** Tells the handler that it is about to go out on this connection. */
  start(connection: Carrier): void {
    if (this.#over) return;
    try {
      this.handler.onRequestStart?.(this);
    } catch (error) {
      this.fail(asError(error));
    }
    // Only now: whoever ends it before anything was written ends no connection.
    if (!this.#over) this.#connection = connection;
  }

  pause(): void {
    if (!this.#over) this.#connection?.pause();
  }

  resume(): void {
    if (!this.#over) this.#connection?.resume();
  }

  abort(reason: Error): void {
    if (this.#over) return;
    const connection = this.#connection;
    this.fail(reason);
    connection?.drop(this);
  }

  /** Its handler has heard the last. */
  finish(): void {
    this.#over = true;
    this.#connection = undefined;
  }

  fail(error: Error): void {
    if (this.#over) return;
    this.finish();
    if (this.body instanceof Readable) this.body.destroy();
    tellError(this.handler, error);
  }
}

/** A handler that fails here fails for itself: the pool has others to care for. */
export function tellError(handler: Http1Handler, error: Error): void {
  try {
    handler.onResponseError?.(error);
  } catch (thrown) {
    queueMicrotask(() => {
      throw thrown;
    });
  }
}

export function asError(thrown: unknown): Error {
  return thrown instanceof Error ? thrown : new Error(String(thrown));
}
