import type { Http2Stream } from 'node:http2';

/**
 * Resets a stream (RFC 9113, 6.4) without ending it first. Node's own `close` ends the writable side before the reset, so that the other
 * side gets END_STREAM and takes what broke off for a whole message.
 */
export function resetStream(stream: Http2Stream, code: number): void {
  if (stream.closed || stream.destroyed) return;
  // oxlint-disable-next-line no-underscore-dangle -- what Node calls to end the writable side
  stream._final = (done): void => done();
  stream.close(code);
}
