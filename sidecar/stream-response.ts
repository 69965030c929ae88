import { constants, type OutgoingHttpHeaders, type ServerHttp2Stream } from 'node:http2';
import { sendTrailers } from '#core/http2-relay';
import { resetStream } from '#core/http2-reset';
import type { ProgramResponse } from './program-side.ts';

/** Of one connection, and no message of HTTP/2 has them (RFC 9113, 8.2.2). */
const OF_HTTP1 = new Set(['connection', 'keep-alive', 'transfer-encoding', 'upgrade']);

/** The answer to one stream of HTTP/2. */
export class StreamResponse implements ProgramResponse {
  readonly stream: ServerHttp2Stream;
  /** Whether a refusal is told in the form of gRPC. */
  readonly grpc: boolean;
  #trailers: OutgoingHttpHeaders = {};
  #ended = false;

  constructor(stream: ServerHttp2Stream, grpc: boolean) {
    this.stream = stream;
    this.grpc = grpc;
  }

  get headersSent(): boolean {
    return this.stream.headersSent;
  }

  get writableFinished(): boolean {
    // A stream that was reset has finished, too, and nobody has ended it.
    return this.#ended && this.stream.writableFinished;
  }

  writeContinue(): void {
    if (!this.#over) this.stream.additionalHeaders({ ':status': 100 });
  }

  writeHead(status: number, headers: string[]): void {
    if (this.#over) return;
    const { stream } = this;
    // It is asked of a stream that was reset, too.
    stream.once('wantTrailers', () => {
      if (!this.#over) sendTrailers(stream, this.#trailers);
    });
    stream.respond([':status', String(status), ...http2Fields(headers)], { waitForTrailers: true });
  }

  /** A head is a frame of its own, and has gone. */
  flushHeaders(): void {}

  /** All of the answer in one frame. */
  writeOnly(headers: string[]): void {
    if (this.#over) return;
    this.#ended = true;
    this.stream.respond(headers, { endStream: true });
  }

  write(chunk: Buffer): boolean {
    return this.#over || this.stream.write(chunk);
  }

  end(body?: string, encoding: BufferEncoding = 'utf8'): void {
    if (this.#over) return;
    this.#ended = true;
    if (body === undefined) this.stream.end();
    else this.stream.end(body, encoding);
  }

  /** `code`: RFC 9113, 7. */
  reset(code: number): void {
    resetStream(this.stream, code);
  }

  destroy(): void {
    this.reset(constants.NGHTTP2_CANCEL);
  }

  addTrailers(trailers: Readonly<Record<string, string>>): void {
    this.#trailers = { ...trailers };
  }

  on(event: 'drain', listener: () => void): void {
    this.stream.on(event, listener);
  }

  once(event: 'close', listener: () => void): void {
    this.stream.once(event, listener);
  }

  /** The program has left or reset it. */
  get #over(): boolean {
    return this.stream.closed || this.stream.destroyed;
  }
}

function http2Fields(headers: readonly string[]): string[] {
  const fields: string[] = [];
  for (let at = 0; at + 1 < headers.length; at += 2) {
    const name = (headers[at] ?? '').toLowerCase();
    if (!OF_HTTP1.has(name)) fields.push(name, headers[at + 1] ?? '');
  }
  return fields;
}
