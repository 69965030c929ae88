import { type ErrorCode, OutriderError } from '#core/errors';

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
    options: { cause?: unknown } = {},
  ) {
    super(code, message, options);
    this.rpcCode = rpc.code;
    this.rpcId = rpc.id;
  }
}
