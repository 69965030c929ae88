import type { Socket } from 'node:net';
import type { Readable } from 'node:stream';
import type { RequestHead } from './request-head.ts';

/** What is asked, with its body. */
export interface Http1Request extends RequestHead {
  /**
   * A stream without a `content-length` among the headers goes in chunks, and is destroyed where the answer ends before it. `connection`,
   * `transfer-encoding`, `keep-alive`, `upgrade` and `expect` are not for the headers to say.
   */
  readonly body?: Buffer | Readable | null | undefined;
}

/** One request under way. After its last call nothing here does anything. */
export interface Http1Controller {
  pause(): void;
  resume(): void;
  /** Ends it, and its connection: `onResponseError` is told of `reason`. */
  abort(reason: Error): void;
}

/** Who hears of the answer. What it throws ends the request, as `abort` does. */
export interface Http1Handler {
  /** A connection is there, and the request about to be written: nothing of it has been. Never called where there is none. */
  onRequestStart?(controller: Http1Controller): void;
  /** Names and values, flat, as Latin-1. Also of interim answers, whose status is below 200. */
  onResponseStart?(controller: Http1Controller, status: number, headers: readonly string[]): void;
  onResponseData?(controller: Http1Controller, chunk: Buffer): void;
  onResponseEnd?(controller: Http1Controller, trailers: string[]): void;
  /** The last call, where `onResponseEnd` and `onRequestUpgrade` are not: an `Http1Error`, or the reason of whoever ended it. */
  onResponseError?(error: Error): void;
  /**
   * The answer to CONNECT, whatever its status, or 101 to who asked for it. The connection is the handler's, paused; what came behind the
   * head is to be read from it.
   */
  onRequestUpgrade?(
    controller: Http1Controller,
    status: number,
    headers: readonly string[],
    socket: Socket,
  ): void;
}
