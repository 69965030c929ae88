import { FIELDS, fieldsOf, isNamed } from './fields.ts';

/** The head of a plain request. */
export interface PlainHead {
  readonly method: string;
  readonly target: string;
  /** Names and values in turn, as they came; values without the space around them. */
  readonly rawHeaders: string[];
  /** Of the body that follows. */
  readonly length: number;
  /** Whether the connection may carry another request. */
  readonly persists: boolean;
}

/** In origin or absolute form (RFC 9112 3.2), with nothing in it that RFC 3986 does not let in. */
const TARGET = "(?:https?://[\\w.:[\\]-]+)?/[\\w\\-.~!$&'()*+,;=:@%/?]*";
const HEAD = new RegExp(
  `^(?:GET|HEAD|POST|PUT|PATCH|DELETE|OPTIONS) ${TARGET} HTTP/1\\.1\\r\\n${FIELDS}$`,
);
const LENGTH = /^(?:0|[1-9]\d{0,8})$/;
const FIELDS_MAX = 1_000;
/** Lengths of the names that are looked at: most others are told apart by theirs. */
const LENGTHS: ReadonlySet<number> = new Set(
  [
    'host',
    'content-length',
    'connection',
    'proxy-connection',
    'transfer-encoding',
    'upgrade',
    'expect',
    'http2-settings',
  ].map((name) => name.length),
);

/**
 * Reads the head of a request, from its request line to the line end of its last field; undefined where it is not plain. Plain is what RFC
 * 9112 writes, without folding, with no line end but CR LF, no space behind a value, one host, at most one length and no transfer coding,
 * and no wish for anything but an answer. All readers agree about it, which `npm run fuzz -- http` holds against llhttp, undici and Python.
 */
export function readPlainHead(text: string): PlainHead | undefined {
  if (!HEAD.test(text)) return undefined;
  const methodEnd = text.indexOf(' ');
  const lineEnd = text.indexOf('\r\n');
  let isPlain = true;
  const rawHeaders = fieldsOf(text, lineEnd + 2, () => {
    isPlain = false;
  });
  if (!isPlain || rawHeaders.length > 2 * FIELDS_MAX) return undefined;
  let hosts = 0;
  let length: string | undefined;
  let persists = true;
  for (let at = 0; at < rawHeaders.length; at += 2) {
    const name = rawHeaders[at] ?? '';
    if (!LENGTHS.has(name.length)) continue;
    const value = rawHeaders[at + 1] ?? '';
    switch (name.toLowerCase()) {
      case 'host':
        hosts += 1;
        break;
      case 'content-length':
        if (length !== undefined || !LENGTH.test(value)) return undefined;
        length = value;
        break;
      case 'connection':
        if (isNamed(value, 'close')) persists = false;
        else if (!isNamed(value, 'keep-alive')) return undefined;
        break;
      case 'proxy-connection':
      case 'transfer-encoding':
      case 'upgrade':
      case 'expect':
      case 'http2-settings':
        return undefined;
    }
  }
  if (hosts !== 1) return undefined;
  return {
    method: text.slice(0, methodEnd),
    target: text.slice(methodEnd + 1, lineEnd - ' HTTP/1.1'.length),
    rawHeaders,
    length: Number(length ?? 0),
    persists,
  };
}
