import { afterTime } from './after-time.ts';
import type { Http1Controller, Http1Pool, Http1Request } from './client.ts';

/** An answer of a size that is known to be small. */
export interface WholeAnswer {
  readonly status: number;
  /** Name, value, name, value. */
  readonly headers: readonly string[];
  readonly body: Buffer;
}

export interface WholeBounds {
  /** From now to the last byte, connecting included. */
  readonly timeoutMs: number;
  /** Of the body. */
  readonly maxBytes: number;
}

/** The time was over. */
export class LateError extends Error {}

/**
 * Resolves to the whole answer.
 * @throws {Http1Error} and what connecting fails with; LateError where the time is over; an error that says that the answer is too long
 */
export function askWhole(
  pool: Http1Pool,
  request: Http1Request,
  { timeoutMs, maxBytes }: WholeBounds,
): Promise<WholeAnswer> {
  return new Promise((resolve, reject) => {
    const pieces: Buffer[] = [];
    let bytes = 0;
    let status = 0;
    let headers: readonly string[] = [];
    let started: Http1Controller | undefined;
    let late: Error | undefined;
    const noLonger = afterTime(timeoutMs, () => {
      late = new LateError(`there is no answer after ${timeoutMs} ms`);
      reject(late);
      started?.abort(late);
    });
    pool.dispatch(request, {
      onRequestStart(controller) {
        started = controller;
        if (late) controller.abort(late);
      },
      onResponseStart(_controller, given, fields) {
        status = given;
        headers = fields;
      },
      onResponseData(_controller, chunk) {
        bytes += chunk.length;
        if (bytes > maxBytes) throw new Error(`the answer is longer than ${maxBytes} bytes`);
        pieces.push(chunk);
      },
      onResponseEnd() {
        noLonger();
        resolve({ status, headers, body: Buffer.concat(pieces) });
      },
      onResponseError(error) {
        noLonger();
        reject(error);
      },
    });
  });
}
