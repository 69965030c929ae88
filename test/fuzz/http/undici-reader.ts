import type { IncomingHttpHeaders } from 'node:http';
import type { Socket } from 'node:net';
import { Duplex } from 'node:stream';
import { Client, type Dispatcher } from 'undici';
import { type Reader, type Reading, whatwgUrl } from './reading.ts';

const HEAD_END = /\r\n/;

/**
 * undici reads answers, so it is shown the head and body of the first request as an answer: its own build of llhttp then says which
 * headers and which body are in it. Where a request without a length would end at once an answer goes on to the end of the connection,
 * so of such a one there is no reading.
 */
export function undiciReader(): Reader {
  return { name: 'undici', read: readOne, stop: () => {} };
}

const NOTHING: Reading = { requests: [], after: 'refused' };

async function readOne(connection: string): Promise<Reading> {
  // What stands in place of a request line is ours, and llhttp passes over line ends before one.
  const text = connection.replace(/^[\r\n]+/, '');
  const end = HEAD_END.exec(text);
  const [method = '', target = '', ...more] = text.slice(0, end?.index ?? 0).split(' ');
  if (!end || more.length !== 1 || method === '' || target === '') return NOTHING;
  const answer = `HTTP/1.1 200 OK${text.slice(end.index)}`;
  let begun = false;
  const socket = new Duplex({
    read: () => {},
    write(_chunk, _encoding, done) {
      if (!begun) {
        begun = true;
        // An answer that comes before its request is out is none.
        setImmediate(() => {
          socket.push(Buffer.from(answer, 'latin1'));
          socket.push(null);
        });
      }
      done();
    },
  });
  socket.on('error', () => {});
  const client = new Client('http://any.test', {
    connect: (_options, done) => void setImmediate(() => done(null, socket as Socket)), // a Duplex is all that is used of it
  });
  const answered = await new Promise<Answer | undefined>((resolve) => {
    client.dispatch({ method: 'GET', path: '/' }, new Listener(resolve));
  });
  await client.destroy();
  // Without a length a request has no body, and an answer has all that comes.
  if (
    !answered ||
    !('content-length' in answered.headers || 'transfer-encoding' in answered.headers)
  )
    return NOTHING;
  const { host } = answered.headers;
  const seen = {
    method,
    target,
    url: whatwgUrl(target),
    host: Array.isArray(host) ? host[0] : host,
    body: Buffer.concat(answered.body).toString('latin1'),
  };
  return { requests: [seen], after: 'closed' };
}

interface Answer {
  readonly headers: IncomingHttpHeaders;
  readonly body: Buffer[];
}

/** Hears of the answer when it is whole, whatever comes behind it. */
class Listener implements Dispatcher.DispatchHandler {
  readonly #done: (answer: Answer | undefined) => void;
  #headers: IncomingHttpHeaders = {};
  readonly #body: Buffer[] = [];

  constructor(done: (answer: Answer | undefined) => void) {
    this.#done = done;
  }

  onRequestStart(): void {}

  onResponseStart(_controller: unknown, _status: number, headers: IncomingHttpHeaders): void {
    this.#headers = headers;
  }

  onResponseData(_controller: unknown, chunk: Buffer): void {
    this.#body.push(chunk);
  }

  onResponseEnd(): void {
    this.#done({ headers: this.#headers, body: this.#body });
  }

  onResponseError(): void {
    this.#done(undefined);
  }
}
