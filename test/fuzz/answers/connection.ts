import { Duplex } from 'node:stream';
import type { ReadingInProgress } from './reading.ts';

/** Turns of the event loop after which a reader in this process, to whom everything was said at once, has said what it has to say. */
const TURNS = 8;

/** A connection within this process: it answers the first thing that is written to it with `text`, and then ends or says nothing more. */
export class AnsweringConnection extends Duplex {
  readonly #text: string;
  readonly #ends: boolean;
  readonly answered: Promise<void>;
  #begin: (() => void) | undefined;

  constructor(text: string, ends: boolean) {
    super();
    this.#text = text;
    this.#ends = ends;
    this.answered = new Promise((resolve) => {
      this.#begin = resolve;
    });
    this.on('error', () => {});
  }

  override _read(): void {}

  override _write(_chunk: Buffer, _encoding: BufferEncoding, done: () => void): void {
    done();
    const begin = this.#begin;
    if (!begin) return;
    this.#begin = undefined;
    // An answer that comes before its request is out is none.
    setImmediate(() => {
      if (this.#text !== '') this.push(Buffer.from(this.#text, 'latin1'));
      if (this.#ends) this.push(null);
      begin();
    });
  }

  // What a client asks of a socket, and none of these has.
  setKeepAlive(): this {
    return this;
  }

  setNoDelay(): this {
    return this;
  }

  setTimeout(): this {
    return this;
  }

  ref(): this {
    return this;
  }

  unref(): this {
    return this;
  }
}

/** Until a reader has understood what was said, or plainly waits for more. */
export async function settled(
  connection: AnsweringConnection,
  progress: ReadingInProgress,
): Promise<void> {
  await connection.answered;
  for (let turn = 0; turn < TURNS && !progress.isOver; turn += 1)
    await new Promise((resolve) => setImmediate(resolve));
}
