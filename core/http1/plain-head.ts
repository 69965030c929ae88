import type { IncomingHttpHeaders } from 'node:http';
import { FIELDS, fieldsOf, isNamed } from './fields.ts';
import { joined } from './joined-fields.ts';

/** The head of a plain request. */
export interface PlainHead {
  readonly method: string;
  readonly target: string;
  readonly fields: PlainFields;
}

/** The fields of a plain head. Several requests may have them in common: nobody can change them then. */
export interface PlainFields {
  /** Names and values in turn, as they came; values without the space around them. */
  readonly rawHeaders: readonly string[];
  readonly headers: Readonly<IncomingHttpHeaders>;
  /** Of the body that follows. */
  readonly length: number;
  /** Whether the connection may carry another request. */
  readonly persists: boolean;
}

/** In origin or absolute form (RFC 9112 3.2), with nothing in it that RFC 3986 does not let in. */
const TARGET = "(?:https?://[\\w.:[\\]-]+)?/[\\w\\-.~!$&'()*+,;=:@%/?]*";
const REQUEST_LINE = new RegExp(
  `^(?:GET|HEAD|POST|PUT|PATCH|DELETE|OPTIONS) ${TARGET} HTTP/1\\.1$`,
);
const LINES = new RegExp(`^${FIELDS}$`);
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
/** Of a longer head, or one with more fields, nothing is kept: there may be thousands of connections. */
const KEPT_MAX_CHARACTERS = 4_096;
const KEPT_MAX_FIELDS = 64;
/** Whoever says nothing again so often in a row is not expected to any more. */
const NEWS_MAX = 8;

/**
 * Reads the heads of the plain requests of one connection. Plain is what RFC 9112 writes, without folding, with no line end but CR LF, no
 * space behind a value, one host, at most one length and no transfer coding, and no wish for anything but an answer. All readers agree
 * about it, which `npm run fuzz -- http` holds against llhttp, undici and Python.
 *
 * Clients say the same with each request, and what differs, as the length of the body, mostly last: lines that are byte for byte those with
 * which a head before began are not read again. What they mean does not depend on what follows.
 */
export class PlainHeads {
  #line: RequestLine | undefined;
  #known: KnownLines | undefined;
  #news = 0;

  /** `text` is a head from its request line to the line end of its last field; undefined where it is not plain. */
  read(text: string): PlainHead | undefined {
    const line = this.#lineOf(text);
    const fields = line && this.#fieldsOf(text, line.text.length);
    if (!fields) return undefined;
    return { method: line.method, target: line.target, fields };
  }

  #lineOf(text: string): RequestLine | undefined {
    const known = this.#line;
    if (known && text.startsWith(known.text)) return known;
    const line = readRequestLine(text);
    this.#line = text.length <= KEPT_MAX_CHARACTERS ? line : undefined; // it keeps all of the head in memory
    return line;
  }

  #fieldsOf(head: string, from: number): PlainFields | undefined {
    const text = head.slice(from); // which keeps all of the head in memory
    const known = this.#known;
    if (known?.begins(text)) {
      this.#news = 0;
      return known.fieldsOf(text, head.length <= KEPT_MAX_CHARACTERS);
    }
    const lines = readLines(text);
    if (!lines) return undefined;
    this.#news += 1;
    const isSmall =
      head.length <= KEPT_MAX_CHARACTERS && lines.rawHeaders.length <= 2 * KEPT_MAX_FIELDS;
    this.#known = isSmall && this.#news <= NEWS_MAX ? learnt(known, text, lines) : undefined;
    return this.#known?.fieldsOf(text, true) ?? fieldsFrom(lines, () => joined(lines.rawHeaders));
  }
}

interface RequestLine {
  readonly method: string;
  readonly target: string;
  /** With its line end. */
  readonly text: string;
}

/** Undefined where it is that of no plain request. */
function readRequestLine(head: string): RequestLine | undefined {
  const lineEnd = head.indexOf('\r\n');
  const line = head.slice(0, lineEnd);
  if (lineEnd < 0 || !REQUEST_LINE.test(line)) return undefined;
  const methodEnd = line.indexOf(' ');
  const target = line.slice(methodEnd + 1, lineEnd - ' HTTP/1.1'.length);
  return { method: line.slice(0, methodEnd), target, text: head.slice(0, lineEnd + 2) };
}

/** What some lines of a head say, each for itself. */
interface Lines {
  readonly rawHeaders: readonly string[];
  readonly hosts: number;
  readonly length: number | undefined;
  readonly persists: boolean;
}

/** Undefined where one of them is in no plain head. */
function readLines(text: string): Lines | undefined {
  if (!LINES.test(text)) return undefined;
  let isPlain = true;
  const rawHeaders = fieldsOf(text, 0, () => {
    isPlain = false;
  });
  if (!isPlain) return undefined;
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
  return { rawHeaders, hosts, length: length === undefined ? undefined : Number(length), persists };
}

/** What all lines of a head say together; undefined where it is not plain. */
function fieldsFrom(lines: Lines, headersOf: () => IncomingHttpHeaders): Fields | undefined {
  const isPlain = lines.hosts === 1 && lines.rawHeaders.length <= 2 * FIELDS_MAX;
  return isPlain ? new Fields(lines, headersOf) : undefined;
}

class Fields implements PlainFields {
  readonly rawHeaders: readonly string[];
  readonly length: number;
  readonly persists: boolean;
  readonly #headersOf: () => IncomingHttpHeaders;
  #headers: IncomingHttpHeaders | undefined;

  constructor({ rawHeaders, length = 0, persists }: Lines, headersOf: () => IncomingHttpHeaders) {
    this.rawHeaders = rawHeaders;
    this.length = length;
    this.persists = persists;
    this.#headersOf = headersOf;
  }

  get headers(): Readonly<IncomingHttpHeaders> {
    return (this.#headers ??= this.#headersOf());
  }
}

/** Lines with which heads of a connection begin. */
class KnownLines {
  readonly text: string;
  readonly #lines: Lines;
  /** Where a head has no others. */
  readonly #whole: PlainFields | undefined;
  #headers: IncomingHttpHeaders | undefined;
  /** The last head that had others, which the next one has again as long as bodies are equally long. */
  #last: { readonly text: string; readonly fields: PlainFields } | undefined;

  constructor(text: string, lines: Lines) {
    this.text = text;
    Object.freeze(lines.rawHeaders);
    this.#lines = lines;
    this.#whole = fieldsFrom(lines, () => this.#joined());
  }

  begins(text: string): boolean {
    return text.slice(0, this.text.length) === this.text;
  }

  /** Of a head that they begin, which may be kept where it is said to be short. */
  fieldsOf(text: string, isShort: boolean): PlainFields | undefined {
    if (text.length === this.text.length) return this.#whole;
    if (text === this.#last?.text) return this.#last.fields;
    const fields = this.#fieldsWith(text.slice(this.text.length));
    const isKept = isShort && fields && fields.rawHeaders.length <= 2 * KEPT_MAX_FIELDS;
    this.#last = isKept ? { text, fields } : undefined;
    return fields;
  }

  #fieldsWith(text: string): PlainFields | undefined {
    const known = this.#lines;
    const more = readLines(text);
    if (!more || (known.length !== undefined && more.length !== undefined)) return undefined;
    const lines = {
      rawHeaders: Object.freeze([...known.rawHeaders, ...more.rawHeaders]),
      hosts: known.hosts + more.hosts,
      length: known.length ?? more.length,
      persists: known.persists && more.persists,
    };
    return fieldsFrom(lines, () =>
      Object.freeze(this.#joinedWith(more.rawHeaders) ?? joined(lines.rawHeaders)),
    );
  }

  #joined(): IncomingHttpHeaders {
    return (this.#headers ??= Object.freeze(joined(this.#lines.rawHeaders)));
  }

  /** Undefined where both have a field of the same name. */
  #joinedWith(rawHeaders: readonly string[]): IncomingHttpHeaders | undefined {
    const [known, more] = [this.#joined(), joined(rawHeaders)];
    for (const name of Object.keys(more)) if (Object.hasOwn(known, name)) return undefined;
    return { ...known, ...more };
  }
}

/** What is known after a head that was not begun by what was known before: what both begin with, if that is most of it, or all of this one. */
function learnt(before: KnownLines | undefined, text: string, lines: Lines): KnownLines {
  const common = before ? commonLines(before.text, text) : '';
  const commonly = common.length > text.length / 2 ? readLines(common) : undefined;
  return commonly ? new KnownLines(common, commonly) : new KnownLines(text, lines);
}

function commonLines(one: string, other: string): string {
  let end = 0;
  for (;;) {
    const next = one.indexOf('\r\n', end) + 2;
    if (next < 2 || one.slice(end, next) !== other.slice(end, next)) return one.slice(0, end);
    end = next;
  }
}
