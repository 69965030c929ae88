import { type Readable, Transform } from 'node:stream';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { afterTime } from '#core/http1/after-time';
import { hasBody, headerOf, trailersForbidden } from './framing.ts';
import type { ProgramRequest } from './program-side.ts';
import { Refused } from './refusal.ts';

/** The most that a body may have, and the rule that says so; null where it is the sidecar's own bound. */
export interface BodyLimit {
  readonly bytes: number;
  readonly rule: string | null;
}

/** What is still read of a request that was answered without its body, so that the program can read the answer. */
const DRAIN_MAX_BYTES = 1_048_576;

/**
 * The body to send on, or null where there is none. It is a stream of its own: the proxy may be done with a body before the
 * program is, and that must not cut the program's connection before it has read the answer.
 *
 * Of a chunked body the first bytes, and whatever arrived with them, are parsed before this resolves: a body whose framing is
 * wrong at its start then reaches nobody.
 * @throws {Refused} body_too_large, trailer_forbidden
 */
export async function requestBody(
  request: ProgramRequest,
  limit: BodyLimit,
  onBytes: (count: number) => void,
): Promise<Readable | Buffer | null> {
  if (!hasBody(request.rawHeaders)) return null;
  const { whole } = request;
  if (whole) {
    onBytes(whole.length);
    if (whole.length > limit.bytes) throw tooLarge(limit);
    return whole;
  }
  let left = limit.bytes;
  const body = new Transform({
    transform(chunk: Buffer, _encoding, done) {
      left -= chunk.length;
      onBytes(chunk.length);
      if (left < 0) done(tooLarge(limit));
      else done(null, chunk);
    },
    flush(done) {
      // The end of the body is written only after this: with a bad trailer the proxy never sees a whole request.
      if (request.stream?.closed === true) done(new Refused('client_gone'));
      else done(trailersForbidden(request.rawTrailers) ? new Refused('trailer_forbidden') : null);
    },
  });
  const cut = (): void => void body.destroy(new Refused('client_gone'));
  request.once('error', cut).once('aborted', cut);
  // An error before the body has a reader must not end the process; it is looked at below and by the reader.
  body.on('error', () => {});
  // What still comes waits until there is an answer: to read on, and to cut what is too long, could get ahead of it.
  body.once('close', () => request.unpipe(body));
  request.pipe(body);
  if (headerOf(request.rawHeaders, 'transfer-encoding') !== undefined) {
    await begun(request);
    await nextTurn();
    if (body.errored) throw body.errored;
  }
  return body;
}

/** @throws {Refused} body_too_large where the head already says so */
export function assertBodySize(request: ProgramRequest, limit: BodyLimit): void {
  const length = Number(headerOf(request.rawHeaders, 'content-length') ?? 0);
  if (length > limit.bytes) throw tooLarge(limit);
}

/** A body that is longer than it may be. */
export function tooLarge({ rule }: BodyLimit): Refused {
  return new Refused('body_too_large', { rule });
}

/** Reads on and forgets, up to a bound; beyond it the connection is cut. */
export function drain(request: ProgramRequest): void {
  if (request.complete || request.destroyed) return;
  let left = DRAIN_MAX_BYTES;
  request.on('data', (chunk: Buffer) => {
    left -= chunk.length;
    if (left < 0) request.destroy();
  });
  request.on('error', () => {});
  request.resume();
}

/** Reads on and forgets. Resolves when the request has come whole or broken, after as much as is drained, or after so long; never rejects. */
export function readOn(request: ProgramRequest, withinMs: number): Promise<void> {
  return new Promise((resolve) => {
    const heard = afterTime(withinMs, resolve);
    const done = (): void => {
      heard();
      resolve();
    };
    let left = DRAIN_MAX_BYTES;
    request.on('data', (chunk: Buffer) => {
      left -= chunk.length;
      if (left < 0) done();
    });
    request.on('error', () => {});
    request.once('end', done).once('close', done).resume();
  });
}

function begun(request: ProgramRequest): Promise<void> {
  return new Promise((resolve) => {
    const done = (): void => resolve();
    request.once('data', done).once('end', done).once('close', done).once('aborted', done);
  });
}
