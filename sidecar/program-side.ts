import type { IncomingMessage } from 'node:http';
import type { Readable } from 'node:stream';

/** A request as a program sent it, whichever version of HTTP carried it. Node's HTTP/1.1 and HTTP/2 requests are such. */
export interface ProgramRequest
  extends Readable,
    Pick<IncomingMessage, 'complete' | 'httpVersion' | 'rawHeaders' | 'rawTrailers'> {
  readonly method?: string | undefined;
  readonly url?: string | undefined;
}

/** The answer to it. Node's HTTP/1.1 answers are such. */
export interface ProgramResponse {
  readonly headersSent: boolean;
  readonly writableFinished: boolean;
  writeContinue(): void;
  /** Names and values in turn. */
  writeHead(status: number, headers: string[]): unknown;
  /** False: wait for `drain`. */
  write(chunk: Buffer): boolean;
  end(): unknown;
  end(body: string): unknown;
  destroy(): unknown;
  /** Sent after the body, where the version and the framing have a place for them. */
  addTrailers(trailers: Readonly<Record<string, string>>): void;
  on(event: 'drain', listener: () => void): unknown;
  once(event: 'close', listener: () => void): unknown;
}
