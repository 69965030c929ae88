/** What an HTTP/1.1 request came to instead of an answer. */
export type Http1ErrorCode =
  /** As many connections as there may be were busy for as long as the head of an answer may take: nothing was sent. */
  | 'BUSY'
  /** No head of an answer in time. */
  | 'HEADERS_TIMEOUT'
  /** Silence within the body of one. */
  | 'BODY_TIMEOUT'
  /** The other side does not speak HTTP as RFC 9112 wants it. */
  | 'MALFORMED'
  /** The other side ended the connection before the answer was whole. */
  | 'CLOSED'
  /** The request cannot be sent as it is, or its body is not as long as it said. */
  | 'ARGUMENT'
  /** The pool was closed. */
  | 'ABORTED';

/** Of a client here; its message is for logs alone. */
export class Http1Error extends Error {
  readonly code: Http1ErrorCode;

  constructor(code: Http1ErrorCode, message: string, cause?: unknown) {
    super(message, { cause });
    this.code = code;
  }
}
