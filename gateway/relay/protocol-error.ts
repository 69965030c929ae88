import { type ErrorCode, OutriderError, publicError } from '#core/errors';

/** null where a message has none, or none that an answer could name. */
export type MessageId = string | number | null;

/** Codes of JSON-RPC 2.0 section 5.1 and of MCP 2026-07-28 that the gateway itself answers with. */
export const RPC = {
  parseError: -32_700,
  invalidRequest: -32_600,
  invalidParams: -32_602,
  headerMismatch: -32_020,
  /** "Server error" of the implementation-defined range; none of the codes by which clients tell the eras apart. */
  serverError: -32_000,
} as const;

/** A refusal with a code of the protocol, about one message. */
export class ProtocolError extends OutriderError {
  readonly rpcCode: number;
  readonly rpcId: MessageId;

  constructor(
    code: ErrorCode,
    rpc: { readonly code: number; readonly id: MessageId },
    message: string,
    options: { cause?: unknown; retryAfterMs?: number } = {},
  ) {
    super(code, message, options);
    this.rpcCode = rpc.code;
    this.rpcId = rpc.id;
  }
}

/** `error` as the answer to the request `id`: one that is about a message already stays as it is. */
export function answering(error: OutriderError, id: MessageId): ProtocolError {
  if (error instanceof ProtocolError) return error;
  const { code, message, cause, retryAfterMs } = error;
  const options = retryAfterMs === undefined ? { cause } : { cause, retryAfterMs };
  return new ProtocolError(code, { code: RPC.serverError, id }, message, options);
}

/**
 * The `error` of a JSON-RPC answer: our own code, and whether a client may try again, stand in `data`. Of a call that was lost nobody knows
 * whether it took effect, so that whether it is sent again is for who knows what it does.
 */
export function rpcError(error: OutriderError) {
  const { message, ...rest } = publicError(error).error;
  const lost = error.code === 'UPSTREAM_LOST';
  const data = {
    ...rest,
    retryable: lost || error.failure.retryable,
    ...(lost ? { executed: 'unknown' } : {}),
  };
  return { code: error instanceof ProtocolError ? error.rpcCode : RPC.serverError, message, data };
}
