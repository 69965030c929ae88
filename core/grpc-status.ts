import { constants } from 'node:http2';
import type { GrpcStatusName } from './errors.ts';

/** Codes of the gRPC protocol by name. */
const CODES: Readonly<Record<GrpcStatusName, number>> = {
  CANCELLED: 1,
  INVALID_ARGUMENT: 3,
  DEADLINE_EXCEEDED: 4,
  NOT_FOUND: 5,
  ALREADY_EXISTS: 6,
  PERMISSION_DENIED: 7,
  RESOURCE_EXHAUSTED: 8,
  FAILED_PRECONDITION: 9,
  ABORTED: 10,
  UNIMPLEMENTED: 12,
  INTERNAL: 13,
  UNAVAILABLE: 14,
  UNAUTHENTICATED: 16,
};

/**
 * A refusal as a gRPC client shows it: the fields of an answer of trailers alone (the gRPC protocol over HTTP/2, "Trailers-Only"), to be
 * sent in one frame that ends the stream. `more`: further fields, names and values in turn.
 */
export function trailersOnly(
  grpc: GrpcStatusName,
  message: string,
  more: readonly string[] = [],
): string[] {
  return [
    ':status',
    '200',
    'content-type',
    'application/grpc',
    'grpc-status',
    String(CODES[grpc]),
    'grpc-message',
    percentEncoded(message),
    ...more,
  ];
}

/**
 * The code to reset a stream with where its answer has begun: the one that gRPC clients take for the status, or for the nearest that there
 * is (the gRPC protocol over HTTP/2, "Errors").
 */
export function resetCode(grpc: GrpcStatusName): number {
  return RESETS[grpc] ?? constants.NGHTTP2_INTERNAL_ERROR;
}

const RESETS: Readonly<Partial<Record<GrpcStatusName, number>>> = {
  CANCELLED: constants.NGHTTP2_CANCEL,
  DEADLINE_EXCEEDED: constants.NGHTTP2_CANCEL,
  PERMISSION_DENIED: constants.NGHTTP2_INADEQUATE_SECURITY,
  UNAUTHENTICATED: constants.NGHTTP2_INADEQUATE_SECURITY,
  RESOURCE_EXHAUSTED: constants.NGHTTP2_ENHANCE_YOUR_CALM,
};

/** Whatever is not a visible ASCII character or a space, and the percent sign, by its UTF-8 bytes. */
function percentEncoded(message: string): string {
  return message.replace(/[^\x20-\x24\x26-\x7e]+/gu, (run) =>
    [...Buffer.from(run, 'utf8')]
      .map((byte) => `%${byte.toString(16).toUpperCase().padStart(2, '0')}`)
      .join(''),
  );
}
