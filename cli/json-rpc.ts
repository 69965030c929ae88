import { exactly, isRawNumber, rawJson } from '#core/json-text';

/** A JSON-RPC 2.0 message, as far as a front must look into it. */
export type Message = Readonly<Record<string, unknown>>;
/** A message as it was written, which is what goes on, and what is read of it. */
export interface Written {
  readonly text: string;
  readonly message: Message;
}
/** An id as JSON, `"a"` or `7`: a number may be one that JavaScript does not hold, and no string is a number. */
export type Id = string;

export const PARSE_ERROR = -32_700;
export const INVALID_REQUEST = -32_600;
/** "Server error" of the implementation-defined range. */
export const SERVER_ERROR = -32_000;

export function isMessage(value: unknown): value is Message {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** @returns undefined for what is no JSON object */
export function written(text: string): Written | undefined {
  const message = parse(text);
  if (!isMessage(message)) return undefined;
  const ids = [message['id'], paramsOf(message)['requestId']];
  const isRounded = ids.some((id) => typeof id === 'number' && !Number.isSafeInteger(id));
  return { text, message: isRounded ? Object(exactly(text)) : message };
}

/** Undefined for what is not JSON. */
export function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** The method of a request or notification; undefined for an answer. */
export function methodOf(message: Message): string | undefined {
  return typeof message['method'] === 'string' ? message['method'] : undefined;
}

/** The id that an answer must carry; undefined for a notification and for an answer. */
export function requestIdOf(message: Message): Id | undefined {
  return methodOf(message) === undefined ? undefined : idOf(message['id']);
}

/** The id that an answer does carry; undefined for a request and a notification. */
export function answeredIdOf(message: Message): Id | undefined {
  return methodOf(message) === undefined ? idOf(message['id']) : undefined;
}

export function paramsOf(message: Message): Message {
  return isMessage(message['params']) ? message['params'] : {};
}

export function errorAnswer(id: Id | null, code: number, message: string, data?: unknown): string {
  return JSON.stringify({
    jsonrpc: '2.0',
    id: id && rawJson(id),
    error: { code, message, ...(data === undefined ? {} : { data }) },
  });
}

/** The text of a message with another id, and everything else as it was. */
export function withId(text: string, id: Id): string {
  return JSON.stringify({ ...Object(exactly(text)), id: rawJson(id) });
}

export function idOf(value: unknown): Id | undefined {
  return typeof value === 'string' || typeof value === 'number' || isRawNumber(value)
    ? JSON.stringify(value)
    : undefined;
}
