import type { HttpRequest } from '#core/http-exchange';

/** A request as a program sent it, whichever version of HTTP carried it. Node's HTTP/2 requests are such, too. */
export interface ProgramRequest extends Omit<HttpRequest, 'headers' | 'socket'> {
  /** Of HTTP/2; what was reset has an end like what is complete. */
  readonly stream?: { readonly closed: boolean };
}

/** The answer to it. Node's HTTP/1.1 answers are such. */
export interface ProgramResponse {
  readonly headersSent: boolean;
  /** Of HTTP/1.1: in place of the status's own words. */
  statusMessage?: string;
  readonly writableFinished: boolean;
  /** Of gRPC: what is refused is told by a status of its own. */
  readonly grpc?: boolean;
  /** Of HTTP/2: ends it with a code of RFC 9113, 7. */
  reset?(code: number): void;
  /** Of HTTP/2: the whole answer, pseudo fields and all. */
  writeOnly?(headers: string[]): void;
  writeContinue(): void;
  /** Names and values in turn. */
  writeHead(status: number, headers: string[]): unknown;
  /** Sends the head now, and not with the first piece of the body. */
  flushHeaders(): void;
  /** False: wait for `drain`. */
  write(chunk: Buffer): boolean;
  end(): unknown;
  end(body: string): unknown;
  end(body: string, encoding: 'latin1'): unknown;
  destroy(): unknown;
  /** Sent after the body, where the version and the framing have a place for them. */
  addTrailers(trailers: Readonly<Record<string, string>>): void;
  on(event: 'drain', listener: () => void): unknown;
  once(event: 'close', listener: () => void): unknown;
}
