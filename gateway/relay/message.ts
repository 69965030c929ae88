import { isRecord } from '#core/is-record';
import { ambiguity } from './ambiguity.ts';
import { type MessageId, ProtocolError, RPC } from './protocol-error.ts';

/** What the gateway knows of one JSON-RPC message. */
export interface Message {
  readonly id: MessageId;
  /** Undefined for an answer of the client. */
  readonly method: string | undefined;
  readonly params: Readonly<Record<string, unknown>>;
  /** The revision that it names itself, as messages do since 2026-07-28. */
  readonly version: string | undefined;
  readonly batched: boolean;
}

const VERSION_KEY = 'io.modelcontextprotocol/protocolVersion';

/**
 * The messages in a body: one, or those of a batch (2025-03-26). A message that two parsers could read differently is refused,
 * because what the gateway decides about must be what the server gets. What is no JSON at all holds no message: the server says so.
 * @throws {ProtocolError} INVALID_REQUEST
 */
export function readMessages(body: Buffer): readonly Message[] {
  if (body.length === 0) return [];
  const text = body.toString('utf8');
  let parsed: unknown;
  try {
    parsed = JSON.parse(text);
  } catch {
    return [];
  }
  const batch = Array.isArray(parsed);
  const values: readonly unknown[] = Array.isArray(parsed) ? parsed : [parsed];
  const messages = values.map((value) => messageOf(value, batch));
  const problem = ambiguity(text, values, batch);
  if (problem !== undefined)
    throw new ProtocolError(
      'INVALID_REQUEST',
      { code: RPC.invalidRequest, id: messages[0]?.id ?? null },
      `the message can be read in two ways: ${problem}`,
    );
  return messages;
}

/** The tool that a message calls; empty where it names none, undefined where it calls none. */
export function toolOf({ method, params }: Message): string | undefined {
  if (method !== 'tools/call') return undefined;
  return typeof params['name'] === 'string' ? params['name'] : '';
}

function messageOf(value: unknown, batched: boolean): Message {
  const { id, method, params } = isRecord(value) ? value : NOTHING;
  const given = isRecord(params) ? params : NOTHING;
  const meta = given['_meta'];
  const version = isRecord(meta) ? meta[VERSION_KEY] : undefined;
  return {
    id: typeof id === 'string' || typeof id === 'number' ? id : null,
    method: typeof method === 'string' ? method : undefined,
    params: given,
    version: typeof version === 'string' ? version : undefined,
    batched,
  };
}

const NOTHING: Readonly<Record<string, unknown>> = {};
