import { isUtf8 } from 'node:buffer';
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
 * The messages in a body: one, or those of a batch (2025-03-26). What the gateway decides about must be what the server gets: so a body that is
 * no JSON for us is refused, which a more lenient parser might read, and a message that two parsers could read differently.
 * @throws {ProtocolError} INVALID_REQUEST
 */
export function readMessages(body: Buffer): readonly Message[] {
  const text = body.toString('utf8');
  const parsed = isUtf8(body) ? parsedJson(text) : undefined;
  if (parsed === undefined) throw invalid(RPC.parseError, null, 'the body is not JSON');
  const batch = Array.isArray(parsed);
  const values: readonly unknown[] = Array.isArray(parsed) ? parsed : [parsed];
  if (values.length === 0) throw invalid(RPC.invalidRequest, null, 'a batch holds no message');
  if (!values.every(isRecord))
    throw invalid(RPC.invalidRequest, null, 'a JSON-RPC message is an object');
  const messages = values.map((value) => messageOf(value, batch));
  const problem = ambiguity(text, values, batch);
  if (problem !== undefined)
    throw invalid(
      RPC.invalidRequest,
      messages[0]?.id ?? null,
      `the message can be read in two ways: ${problem}`,
    );
  return messages;
}

/** Undefined where it is none: no JSON text stands for that. */
function parsedJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function invalid(code: number, id: MessageId, message: string): ProtocolError {
  return new ProtocolError('INVALID_REQUEST', { code, id }, message);
}

/** The tool that a message calls; empty where it names none, undefined where it calls none. */
export function toolOf({ method, params }: Message): string | undefined {
  if (method !== 'tools/call') return undefined;
  return typeof params['name'] === 'string' ? params['name'] : '';
}

function messageOf(
  { id, method, params }: Readonly<Record<string, unknown>>,
  batched: boolean,
): Message {
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
