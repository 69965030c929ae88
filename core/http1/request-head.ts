import { Http1Error } from './error.ts';

/** What is asked, as far as it stands before the body. */
export interface RequestHead {
  readonly method: string;
  /** The request target as it is to be written. */
  readonly path: string;
  /** Name, value, name, value. */
  readonly headers: readonly string[];
  /** Asks to go on as this protocol. */
  readonly upgrade?: string | null | undefined;
}

/** How the body is framed: its length, or 'chunked'; undefined where there is none. */
export type Framing = number | 'chunked' | undefined;

const TOKEN = /^[!#$%&'*+.^_`|~\w-]+$/;
const TARGET = /^[\x21-\x7e\x80-\xff]+$/;
const VALUE = /^[\t\x20-\x7e\x80-\xff]*$/;
const LENGTH = /^\d{1,15}$/;
const LONG = 256;
/** They are about this connection, and so for its client alone to say. */
const OURS = /^(?:connection|transfer-encoding|keep-alive|upgrade|expect)$/i;
/** Whoever reads one of these without a body waits for it (RFC 9110 8.6). */
const EXPECTS_BODY: ReadonlySet<string> = new Set(['POST', 'PUT', 'PATCH', 'QUERY']);

/**
 * The head as it goes out (RFC 9112 3), with the framing that is told; `host` where the headers have none. A `content-length` among the
 * headers has to be the body's.
 * @throws {Http1Error} ARGUMENT
 */
export function requestHead(
  { method, path, headers, upgrade }: RequestHead,
  body: { readonly framing: Framing; readonly host: string },
): { readonly text: string; readonly framing: Framing } {
  if (!TOKEN.test(method) || !TARGET.test(path)) throw argument('the request line cannot be sent');
  if (upgrade && !TOKEN.test(upgrade)) throw argument('there is no such protocol');
  let length: string | undefined;
  let hasHost = false;
  let lines = '';
  for (let at = 0; at < headers.length; at += 2) {
    const name = headers[at] ?? '';
    const value = headers[at + 1];
    if (value === undefined || !TOKEN.test(name) || !isValue(value) || OURS.test(name))
      throw argument('a header cannot be sent');
    if (name.length === 4 && name.toLowerCase() === 'host') {
      if (hasHost) throw argument('there are two hosts');
      hasHost = true;
    } else if (name.length === 14 && name.toLowerCase() === 'content-length') {
      if (length !== undefined || !LENGTH.test(value)) throw argument('the length is not sure');
      length = value;
      continue;
    }
    lines += `${name}: ${value}\r\n`;
  }
  const framing = framingOf(body.framing, length);
  const host = hasHost ? '' : `host: ${body.host}\r\n`;
  const asks = upgrade ? `connection: upgrade\r\nupgrade: ${upgrade}\r\n` : '';
  const text = `${method} ${path} HTTP/1.1\r\n${host}${lines}${asks}${framingLine(method, framing)}\r\n`;
  return { text, framing };
}

/** The last long one that can be sent: most requests of a sandbox carry the same token, and to look at each character takes as long as all else. */
let known = '';

function isValue(value: string): boolean {
  if (value.length < LONG) return VALUE.test(value);
  if (value !== known && VALUE.test(value)) known = value;
  return value === known;
}

/** @throws {Http1Error} ARGUMENT where header and body do not agree */
function framingOf(framing: Framing, length: string | undefined): Framing {
  if (length === undefined) return framing;
  const said = Number(length);
  if (framing === 'chunked') return said;
  if ((framing ?? 0) !== said) throw argument('the body is not as long as it says');
  return framing ?? 0;
}

function framingLine(method: string, framing: Framing): string {
  if (framing === 'chunked') return 'transfer-encoding: chunked\r\n';
  if (framing === undefined) return EXPECTS_BODY.has(method) ? 'content-length: 0\r\n' : '';
  return `content-length: ${framing}\r\n`;
}

function argument(message: string): Http1Error {
  return new Http1Error('ARGUMENT', message);
}
