import { Http1Error } from './error.ts';
import { FIELDS, fieldsOf as fieldsFrom, isNamed, TEXT } from './fields.ts';

/** The head of one answer. */
export interface AnswerHead {
  readonly status: number;
  /** Name, value, name, value, as they came; values without the space around them. Frozen, since several answers may have them. */
  readonly headers: readonly string[];
  readonly chunked: boolean;
  /** What `Content-Length` says; undefined where there is none. */
  readonly length: number | undefined;
  /** Whether the other side will answer another request on this connection. */
  readonly persists: boolean;
  /** For how long it will keep it without one, where it says so. */
  readonly keepAliveS: number | undefined;
}

const HEAD = new RegExp(`^HTTP/1\\.[01] [1-5]\\d\\d(?: ${TEXT})?\\r\\n${FIELDS}$`);
const TRAILERS = new RegExp(`^${FIELDS}$`);
const FRAMING = /^(?:content-length|transfer-encoding)$/i;
const FIELDS_MAX = 1_000;
const LENGTH = /^\d{1,15}$/;
const PROTOCOL = 'HTTP/1.';
const STATUS_AT = 'HTTP/1.1 '.length;

/** A longer head, or one with more fields, is not kept: there may be thousands of connections. */
const KEPT_MAX_CHARACTERS = 4_096;
const KEPT_MAX_FIELDS = 64;

/** Reads the heads of the answers on one connection: one that is, byte for byte, the one before is not read again. */
export class AnswerHeads {
  #last: { readonly text: string; readonly head: AnswerHead } | undefined;

  /** As `readHead` does. @throws {Http1Error} MALFORMED */
  read(text: string): AnswerHead {
    if (text === this.#last?.text) return this.#last.head;
    const head = readHead(text);
    const isSmall =
      text.length <= KEPT_MAX_CHARACTERS && head.headers.length <= 2 * KEPT_MAX_FIELDS;
    this.#last = isSmall ? { text, head } : undefined;
    return head;
  }
}

/**
 * Reads a head, from its status line to the line end of its last field, as RFC 9112 writes it: no folding, no line end but CR LF, one
 * meaning of where the body ends.
 * @throws {Http1Error} MALFORMED
 */
function readHead(text: string): AnswerHead {
  if (!HEAD.test(text)) throw malformed('the head of an answer is malformed');
  const status = Number(text.slice(STATUS_AT, STATUS_AT + 3));
  const isLatest = text.charCodeAt(STATUS_AT - 2) === ONE;
  const headers = fieldsOf(text, text.indexOf('\r\n') + 2);
  let length: string | undefined;
  let encoding: string | undefined;
  let persists = isLatest;
  let keepAliveS: number | undefined;
  for (let at = 0; at < headers.length; at += 2) {
    const name = headers[at] ?? '';
    // Most names are told apart by their length.
    if (name.length === 10 || name.length === 16) {
      // The second is no standard's, and some readers follow it.
      if (/^(?:proxy-)?connection$/i.test(name)) persists &&= !closes(headers[at + 1]);
      else if (isNamed(name, 'keep-alive')) keepAliveS = secondsOf(headers[at + 1]);
    } else if (name.length === 14 && isNamed(name, 'content-length')) {
      if (length !== undefined) throw malformed('an answer has two lengths');
      length = headers[at + 1] ?? '';
    } else if (name.length === 17 && isNamed(name, 'transfer-encoding')) {
      if (encoding !== undefined) throw malformed('an answer has two transfer codings');
      encoding = headers[at + 1] ?? '';
    }
  }
  if (length !== undefined && !LENGTH.test(length)) throw malformed('the length is no number');
  const chunked = encoding !== undefined;
  if (chunked && (!isNamed(encoding ?? '', 'chunked') || !isLatest || length !== undefined))
    throw malformed('where the body of an answer ends is not sure');
  assertBodyless(status, chunked, length);
  // Some readers take the connection to end before the answer that is to follow.
  if (status < 200 && !persists) throw malformed('an interim answer ends the connection');
  return {
    status,
    headers: Object.freeze(headers),
    chunked,
    length: length === undefined ? undefined : Number(length),
    persists,
    keepAliveS,
  };
}

/** Whether a head may begin with these. */
export function mayBegin(pieces: readonly Buffer[]): boolean {
  let begin = '';
  for (const piece of pieces) {
    begin += piece.toString('latin1', 0, PROTOCOL.length - begin.length);
    if (begin.length === PROTOCOL.length) break;
  }
  return PROTOCOL.startsWith(begin);
}

/** @throws {Http1Error} MALFORMED, also where a trailer says something about the framing */
export function readTrailers(text: string): string[] {
  if (!TRAILERS.test(text)) throw malformed('the trailers of an answer are malformed');
  const trailers = fieldsOf(text, 0);
  for (let at = 0; at < trailers.length; at += 2)
    if (FRAMING.test(trailers[at] ?? '')) throw malformed('a trailer is about the framing');
  return trailers;
}

/** Readers do not agree whether what has no body may still have a transfer coding. */
function assertBodyless(status: number, chunked: boolean, length: string | undefined): void {
  const interim = status < 200;
  if (chunked && (interim || status === 204 || status === 304))
    throw malformed('a transfer coding of no body');
  if (interim && Number(length ?? 0) !== 0) throw malformed('an interim answer has a body');
}

const ONE = '1'.charCodeAt(0);

/** The lines from `from` on, each with its line end. */
function fieldsOf(text: string, from: number): string[] {
  const fields = fieldsFrom(text, from, assertNotFraming);
  if (fields.length > 2 * FIELDS_MAX) throw malformed('an answer has too many fields');
  return fields;
}

function assertNotFraming(name: string): void {
  if (FRAMING.test(name)) throw malformed('readers do not agree about space behind the framing');
}

function closes(options = ''): boolean {
  return options
    .toLowerCase()
    .split(',')
    .some((option) => option.trim() === 'close');
}

function secondsOf(keepAlive = ''): number | undefined {
  const seconds = /(?:^|[\s,;])timeout=(\d{1,6})(?=$|[\s,;])/i.exec(keepAlive)?.[1];
  return seconds === undefined ? undefined : Number(seconds);
}

function malformed(message: string): Http1Error {
  return new Http1Error('MALFORMED', message);
}
