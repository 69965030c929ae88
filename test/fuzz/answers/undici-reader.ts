import type { Socket } from 'node:net';
import { Client, type Dispatcher } from 'undici';
import { AnsweringConnection, settled } from './connection.ts';
import { type Reader, ReadingInProgress } from './reading.ts';

const HEAD_MAX_BYTES = 1_048_576;

/** undici, which has an llhttp and checks of its own. */
export function undiciReader(): Reader {
  return {
    name: 'undici',
    read: async (method, text, ended) => {
      const connection = new AnsweringConnection(text, ended);
      const progress = new ReadingInProgress();
      const client = new Client('http://any.test', {
        maxHeaderSize: HEAD_MAX_BYTES,
        headersTimeout: 0,
        bodyTimeout: 0,
        connect: (_options, done) =>
          void setImmediate(() => done(null, connection as unknown as Socket)), // a Duplex is all that is used of it
      });
      client.dispatch({ method, path: '/' }, new Listener(progress));
      await settled(connection, progress);
      const reading = progress.reading();
      await client.destroy();
      return reading;
    },
    stop: () => {},
  };
}

type Controller = Dispatcher.DispatchController;

class Listener implements Dispatcher.DispatchHandler {
  readonly #progress: ReadingInProgress;

  constructor(progress: ReadingInProgress) {
    this.#progress = progress;
  }

  onRequestStart(): void {}

  onResponseStart({ rawHeaders }: Controller, status: number): void {
    this.#progress.head(status, flat(rawHeaders));
  }

  onResponseData(_controller: Controller, chunk: Buffer): void {
    this.#progress.data(chunk);
  }

  onResponseEnd({ rawTrailers }: Controller): void {
    this.#progress.end(flat(rawTrailers));
  }

  onResponseError(): void {
    this.#progress.refuse();
  }
}

function flat(raw: Controller['rawHeaders']): (string | Buffer)[] {
  if (!Array.isArray(raw)) throw new TypeError('undici tells raw fields in another form');
  return raw;
}
