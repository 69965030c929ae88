import type { IncomingHttpHeaders } from 'node:http';
import type { Socket } from 'node:net';

/** A request as those who serve it use it. Node's is one, and one that the server of plain requests has read (http1/plain-server.ts). */
export interface HttpRequest extends AsyncIterable<Buffer> {
  readonly method?: string | undefined;
  readonly url?: string | undefined;
  readonly httpVersion: string;
  /** Names and values in turn, as they came. */
  readonly rawHeaders: readonly string[];
  readonly rawTrailers: string[];
  /** By their lower-case names, several of one name as Node joins them. */
  readonly headers: Readonly<IncomingHttpHeaders>;
  readonly socket: Socket;
  /** Whether all of it has been read from the connection. */
  readonly complete: boolean;
  readonly destroyed: boolean;
  /** The body where it came with the head: whoever takes it need not listen. */
  readonly whole?: Buffer;
  on(event: 'data', listener: (chunk: Buffer) => void): this;
  on(event: 'end' | 'close' | 'aborted', listener: () => void): this;
  on(event: 'error', listener: (error: Error) => void): this;
  once(event: 'data', listener: (chunk: Buffer) => void): this;
  once(event: 'end' | 'close' | 'aborted', listener: () => void): this;
  once(event: 'error', listener: (error: Error) => void): this;
  off(event: 'end' | 'close', listener: () => void): this;
  pipe<To extends NodeJS.WritableStream>(to: To): To;
  unpipe(from: NodeJS.WritableStream): unknown;
  resume(): unknown;
  destroy(): unknown;
}

/** An answer as those who write it use it. Node's is one, too. */
export interface HttpResponse {
  readonly req: HttpRequest;
  /** Null once it has let the connection go. */
  readonly socket: Socket | null;
  statusCode: number;
  /** In place of the status's own words. */
  statusMessage: string;
  /** Whether the connection may carry another request. */
  shouldKeepAlive: boolean;
  readonly headersSent: boolean;
  readonly writableEnded: boolean;
  /** Whether the operating system has all of it. */
  readonly writableFinished: boolean;
  readonly writableNeedDrain: boolean;
  readonly destroyed: boolean;
  setHeader(name: string, value: string): unknown;
  /** Names and values in turn, or by name. Nothing leaves before the first of the body, its end, or `flushHeaders`. */
  writeHead(status: number, headers?: string[] | HeadersByName): this;
  writeContinue(): void;
  flushHeaders(): void;
  /** False: wait for `drain`. */
  write(chunk: Buffer): boolean;
  end(body?: Buffer | string): unknown;
  end(body: string, encoding: 'latin1'): unknown;
  /** Sent after the body where its framing has a place for them. */
  addTrailers(trailers: Readonly<Record<string, string>>): void;
  destroy(): unknown;
  on(event: 'close' | 'drain', listener: () => void): this;
  on(event: 'error', listener: (error: Error) => void): this;
  once(event: 'close' | 'drain' | 'finish', listener: () => void): this;
  off(event: 'close', listener: () => void): this;
}

export type HeadersByName = Record<string, string | number | string[] | undefined>;
