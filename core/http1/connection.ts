import type { Socket } from 'node:net';
import { Readable } from 'node:stream';
import { byTurnEnd } from '../turn-end.ts';
import type { AnswerHead } from './answer-head.ts';
import { type AnswerEvents, AnswerParser } from './answer-parser.ts';
import { Http1Error } from './error.ts';
import { asError, type Carrier, type Exchange, tellError } from './exchange.ts';
import { type BodyListener, BodyWriter } from './request-body.ts';

/** Ticks of the pool in which nothing may come; Infinity: for ever. */
export interface Timeouts {
  readonly headTicks: number;
  readonly bodyTicks: number;
  readonly idleMs: number;
}

export interface ConnectionOptions {
  readonly headMaxBytes: number;
  readonly timeouts: Timeouts;
  /** It may take another request. */
  readonly onFree: () => void;
  /** It is closed, or somebody else's. */
  readonly onGone: () => void;
}

/** A body that is not longer goes out in one piece with the head. */
const ONE_PIECE_BYTES = 16_384;

/** One connection, and the request that is under way on it. */
export class Connection implements AnswerEvents, BodyListener, Carrier {
  readonly #socket: Socket;
  readonly #options: ConnectionOptions;
  readonly #parser: AnswerParser;
  #exchange: Exchange | undefined;
  #writer: BodyWriter | undefined;
  /** Whether the answer's head is here. */
  #answered = false;
  #isPaused = false;
  #isGone = false;
  /** What of the request waits for the end of the turn. */
  #unsent: string | undefined;
  /** Ticks until it has taken too long; Infinity: it may. */
  #left = Infinity;
  /** How long it is kept without a request, and until when it is. */
  #keptMs: number;
  #keptUntil: number;

  constructor(socket: Socket, options: ConnectionOptions) {
    this.#socket = socket;
    this.#options = options;
    this.#parser = new AnswerParser(this, options.headMaxBytes);
    this.#keptMs = options.timeouts.idleMs;
    this.#keptUntil = performance.now() + this.#keptMs;
    socket.on('data', this.#onBytes).on('end', this.#onFin);
    socket.on('error', this.#onError).on('close', this.#onClose);
    socket.resume(); // whoever made it may have paused it
  }

  /** Whether a request is under way. */
  get busy(): boolean {
    return this.#exchange !== undefined;
  }

  /** Writes the request. Only where `onFree` was called, and once for each time. */
  begin(exchange: Exchange): void {
    this.#exchange = exchange;
    exchange.start(this);
    if (this.#isGone) return;
    // Nothing was written.
    if (exchange.over) return this.#free();
    this.#answered = false;
    this.#parser.expect(exchange.method, exchange.upgrades);
    this.#write(exchange);
  }

  #write({ head, body, framing }: Exchange): void {
    const socket = this.#socket;
    this.#left = this.#options.timeouts.headTicks;
    if (body === undefined || (!(body instanceof Readable) && body.length === 0))
      this.#writeByTurnEnd(head);
    else if (body instanceof Readable) {
      // What of the body is there goes with the head.
      socket.cork();
      setImmediate(() => socket.uncork());
      socket.write(head, 'latin1');
      this.#left = Infinity; // until it has been sent: how long that takes is up to its source
      const length = framing === 'chunked' ? undefined : framing;
      this.#writer = new BodyWriter(socket, body, length, this);
      this.#writer.start();
    } else if (body.length <= ONE_PIECE_BYTES)
      this.#writeByTurnEnd(`${head}${body.toString('latin1')}`);
    else {
      socket.cork();
      socket.write(head, 'latin1');
      socket.write(body);
      socket.uncork();
    }
  }

  #writeByTurnEnd(text: string): void {
    this.#unsent = text;
    byTurnEnd(this.#writeNow);
  }

  readonly #writeNow = (): void => {
    const text = this.#unsent;
    this.#unsent = undefined;
    if (text !== undefined) this.#socket.write(text, 'latin1');
  };

  pause(): void {
    this.#isPaused = true;
    this.#socket.pause();
  }

  resume(): void {
    if (!this.#isPaused) return;
    this.#isPaused = false;
    this.#socket.resume();
  }

  /** Ends the connection if this is what it is busy with. */
  drop(exchange: Exchange): void {
    if (this.#exchange === exchange) this.#leave();
  }

  /** Ends it, and whatever is under way with this error. */
  destroy(error: Error): void {
    const exchange = this.#exchange;
    this.#leave();
    exchange?.fail(error);
  }

  /** Whether it may be used still. */
  isFresh(now: number): boolean {
    return now < this.#keptUntil;
  }

  tick(now: number): void {
    if (!this.busy) {
      if (!this.isFresh(now)) this.#leave();
    } else if (!this.#isPaused && (this.#left -= 1) < 0) {
      const what = this.#answered ? 'BODY_TIMEOUT' : 'HEADERS_TIMEOUT';
      this.destroy(new Http1Error(what, 'the other side was silent for too long'));
    }
  }

  onHead({ status, headers, keepAliveS }: AnswerHead): void {
    const exchange = this.#exchange;
    if (!exchange) return;
    if (status >= 200) {
      this.#answered = true;
      this.#listen();
      this.#keptMs = this.#keptFor(keepAliveS);
    }
    exchange.handler.onResponseStart?.(exchange, status, headers);
  }

  /** Less than the other side says: it must not end the connection in the moment in which a request goes out. */
  #keptFor(keepAliveS: number | undefined): number {
    const { idleMs } = this.#options.timeouts;
    return keepAliveS === undefined ? idleMs : Math.min(idleMs, 1_000 * (keepAliveS - 1));
  }

  onData(chunk: Buffer): void {
    const exchange = this.#exchange;
    if (!exchange) return;
    this.#listen();
    exchange.handler.onResponseData?.(exchange, chunk);
  }

  /** From here on so much silence is too much. */
  #listen(): void {
    this.#left = this.#options.timeouts.bodyTicks;
  }

  onEnd(trailers: string[]): void {
    const exchange = this.#exchange;
    if (!exchange) return;
    exchange.finish();
    // Whoever did not take the end as fast as it came has all of it now.
    this.resume();
    if (this.#parser.reusable && this.#keptMs > 0 && !this.#writer && this.#isSound()) this.#free();
    else this.#leave();
    try {
      exchange.handler.onResponseEnd?.(exchange, trailers);
    } catch (error) {
      tellError(exchange.handler, asError(error));
    }
  }

  onUpgrade({ status, headers }: AnswerHead, rest: Buffer): void {
    const exchange = this.#exchange;
    if (!exchange) return;
    const { handler } = exchange;
    if (!handler.onRequestUpgrade)
      throw new Http1Error('MALFORMED', 'there is nobody for what follows');
    // In the middle of a body nobody means anything else.
    if (this.#writer) throw new Http1Error('MALFORMED', 'another protocol within the request');
    const socket = this.#socket;
    exchange.finish();
    socket.off('data', this.#onBytes).off('end', this.#onFin);
    socket.off('close', this.#onClose).pause();
    if (rest.length > 0) socket.unshift(rest);
    this.#gone();
    try {
      // Until its new owner listens for them, errors are for `#onError`, which stays.
      handler.onRequestUpgrade(exchange, status, headers, socket);
    } catch (error) {
      socket.destroy();
      tellError(handler, asError(error));
    }
  }

  onSent(): void {
    this.#writer = undefined;
    if (!this.#answered && this.#exchange) this.#left = this.#options.timeouts.headTicks;
  }

  onBlocked(isBlocked: boolean): void {
    if (this.#answered) return;
    this.#left = isBlocked && this.#exchange ? this.#options.timeouts.headTicks : Infinity;
  }

  onFailed(error: Error): void {
    this.destroy(error);
  }

  #isSound(): boolean {
    const { destroyed, writable, readableEnded, writableNeedDrain } = this.#socket;
    return !destroyed && writable && !readableEnded && !writableNeedDrain;
  }

  #free(): void {
    this.#exchange = undefined;
    this.#keptUntil = performance.now() + this.#keptMs;
    this.#options.onFree();
  }

  readonly #onBytes = (bytes: Buffer): void => {
    if (!this.#exchange) return this.#leave(); // it answers nothing
    if (this.#unsent !== undefined) return this.destroy(unasked());
    try {
      this.#parser.push(bytes);
    } catch (error) {
      this.destroy(asError(error));
    }
  };

  readonly #onFin = (): void => {
    if (!this.#exchange) return this.#leave();
    try {
      this.#parser.end();
    } catch (error) {
      this.destroy(asError(error));
    }
  };

  readonly #onError = (error: Error): void => {
    this.destroy(new Http1Error('CLOSED', 'the connection broke', error));
  };

  readonly #onClose = (): void => {
    this.destroy(new Http1Error('CLOSED', 'the connection was closed'));
  };

  /** Ends the connection; whoever is told of it is told by the caller. */
  #leave(): void {
    this.#parser.stop();
    this.#writer?.stop();
    this.#gone();
    this.#socket.destroy();
  }

  #gone(): void {
    this.#exchange = undefined;
    this.#writer = undefined;
    this.#unsent = undefined;
    if (this.#isGone) return;
    this.#isGone = true;
    this.#options.onGone();
  }
}

function unasked(): Http1Error {
  return new Http1Error('CLOSED', 'an answer came before the request was sent');
}
