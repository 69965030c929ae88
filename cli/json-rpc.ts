/** A JSON-RPC 2.0 message, as far as a front must look into it. Everything else in it passes untouched. */
export type Message = Readonly<Record<string, unknown>>;
export type Id = string | number;

export const PARSE_ERROR = -32_700;
export const INVALID_REQUEST = -32_600;
/** "Server error" of the implementation-defined range. */
export const SERVER_ERROR = -32_000;

export function isMessage(value: unknown): value is Message {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
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

export function errorAnswer(id: Id | null, code: number, message: string, data?: unknown): Message {
  return { jsonrpc: '2.0', id, error: { code, message, ...(data === undefined ? {} : { data }) } };
}

export function idOf(value: unknown): Id | undefined {
  return typeof value === 'string' || typeof value === 'number' ? value : undefined;
}
