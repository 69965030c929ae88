import type { Socket } from 'node:net';
import type { Readable } from 'node:stream';
import { Http1Error } from './error.ts';

/** Who hears what becomes of a body. */
export interface BodyListener {
  /** All of it has been written. */
  onSent(): void;
  /** The other side takes nothing at the moment, or takes something again. */
  onBlocked(isBlocked: boolean): void;
  onFailed(error: Error): void;
}

/** Writes a stream to a connection as it comes, framed by its length or in chunks; the slower side sets the pace. Its errors are its owner's. */
export class BodyWriter {
  readonly #socket: Socket;
  readonly #source: Readable;
  readonly #listener: BodyListener;
  /** Bytes that are still to come; undefined: it goes in chunks. */
  #left: number | undefined;
  #over = false;

  constructor(
    socket: Socket,
    source: Readable,
    length: number | undefined,
    listener: BodyListener,
  ) {
    this.#socket = socket;
    this.#source = source;
    this.#left = length;
    this.#listener = listener;
  }

  start(): void {
    const [socket, source] = [this.#socket, this.#source];
    source.on('data', this.#onData).on('end', this.#onEnd).on('close', this.#onClose);
    socket.on('drain', this.#onDrain);
    if (source.readableEnded) this.#onEnd();
    else if (source.destroyed) this.#onClose();
  }

  /** Nothing more is written, and what is not read of the source never will be. */
  stop(): void {
    if (this.#over) return;
    this.#finish();
    this.#source.destroy();
  }

  readonly #onData = (chunk: Buffer | string): void => {
    const bytes = typeof chunk === 'string' ? Buffer.from(chunk) : chunk;
    if (bytes.length === 0) return;
    if (this.#left === undefined) this.#writeChunk(bytes);
    else if (bytes.length > this.#left) return this.#fail(misfit());
    else {
      this.#left -= bytes.length;
      this.#socket.write(bytes);
    }
    if (!this.#socket.writableNeedDrain) return;
    this.#source.pause();
    this.#listener.onBlocked(true);
  };

  #writeChunk(bytes: Buffer): void {
    const socket = this.#socket;
    socket.cork();
    socket.write(`${bytes.length.toString(16)}\r\n`, 'latin1');
    socket.write(bytes);
    socket.write('\r\n', 'latin1');
    socket.uncork();
  }

  readonly #onDrain = (): void => {
    this.#listener.onBlocked(false);
    this.#source.resume();
  };

  readonly #onEnd = (): void => {
    if (this.#over) return;
    if (this.#left !== undefined && this.#left > 0) return this.#fail(misfit());
    if (this.#left === undefined) this.#socket.write('0\r\n\r\n', 'latin1');
    this.#finish();
    this.#listener.onSent();
  };

  readonly #onClose = (): void => this.#fail(this.#source.errored ?? misfit());

  #fail(error: Error): void {
    if (this.#over) return;
    this.stop();
    this.#listener.onFailed(error);
  }

  #finish(): void {
    this.#over = true;
    this.#source.off('data', this.#onData).off('end', this.#onEnd).off('close', this.#onClose);
    this.#socket.off('drain', this.#onDrain);
  }
}

function misfit(): Http1Error {
  return new Http1Error('ARGUMENT', 'the body is not as long as it says');
}
