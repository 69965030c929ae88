import { EventEmitter } from 'node:events';
import type { Socket } from 'node:net';
import type { HeadersByName, HttpResponse } from '../http-exchange.ts';
import { madeOnce } from '../made-once.ts';
import { STATUS_CODES } from '../node-http.ts';
import { byTurnEnd } from '../turn-end.ts';
import type { PlainRequest } from './plain-request.ts';

const NAME = /^[!#$%&'*+.^_`|~\w-]+$/;
const VALUE = /^[\t\x20-\x7e\x80-\xff]*$/;
const LENGTH = /^\d{1,15}$/;
/** Lengths of the names that are looked at. */
const LENGTHS: ReadonlySet<number> = new Set(
  ['connection', 'content-length', 'transfer-encoding', 'date'].map((name) => name.length),
);
/** What is not longer goes out as text, in one write with what stands before it: Node copies both into one block. */
const ONE_PIECE_BYTES = 16_384;
const NOTHING = Buffer.alloc(0);

/** What an answer needs of its connection. */
export interface AnswerSide {
  readonly socket: Socket;
  /** For how long the connection is kept without a request; 0 where that is not said. */
  readonly keepAliveS: number;
  /** The answer is out, or never will be. */
  over(response: PlainResponse): void;
}

/** How a body is framed (RFC 9112 6.3): bytes that are left of its length, `chunked`, or not at all, because there is none. */
type Framing = number | 'chunked' | 'none';

/**
 * An answer to a plain request. A body that has no length is chunked, or gets one where it comes with its end; one that is not as long as its head
 * says cuts the connection.
 */
export class PlainResponse extends EventEmitter implements HttpResponse {
  readonly req: PlainRequest;
  statusCode = 200;
  statusMessage = '';
  shouldKeepAlive: boolean;
  writableEnded = false;
  writableFinished = false;
  writableNeedDrain = false;
  destroyed = false;
  #side: AnswerSide | undefined;
  readonly #isHead: boolean;
  /** Whether its client may ask again. */
  readonly #persists: boolean;
  /** What `setHeader` was told, by its lower-case name. */
  #set: Map<string, readonly [name: string, value: string]> | undefined;
  /** All lines of the head but the one that tells the framing; undefined before `writeHead`. */
  #head: string | undefined;
  #framing: Framing | undefined;
  #isHeadOut = false;
  #trailers = '';
  #hasSent = false;
  #whole: Buffer | string | undefined;

  constructor(req: PlainRequest, side: AnswerSide, persists: boolean) {
    super();
    this.req = req;
    this.#side = side;
    this.#persists = persists;
    this.shouldKeepAlive = persists;
    this.#isHead = req.method === 'HEAD';
  }

  get socket(): Socket | null {
    return this.#side?.socket ?? null;
  }

  get headersSent(): boolean {
    return this.#head !== undefined;
  }

  setHeader(name: string, value: string): this {
    if (this.#head !== undefined) throw new Error('the head has been written');
    this.#set ??= new Map();
    this.#set.set(name.toLowerCase(), [name, value]);
    return this;
  }

  /** @throws {Error} where a header cannot be sent, or the head has been written */
  writeHead(status: number, headers: readonly string[] | HeadersByName = []): this {
    if (this.#head !== undefined) throw new Error('the head has been written');
    const phrase = this.statusMessage || STATUS_CODES[status] || 'unknown';
    if (!VALUE.test(phrase) || !(status >= 200 && status <= 999))
      throw new Error('the status line cannot be sent');
    this.statusCode = status;
    const head = this.#headOf(headers);
    // What the answer says itself goes before what the server wants, and not before what its client said.
    if (head.saysConnection) this.shouldKeepAlive = this.#persists && !head.closes;
    const date = head.hasDate ? '' : `date: ${dateNow()}\r\n`;
    this.#framing = framingOf(this.#isHead || status === 204 || status === 304, head);
    this.#head = `HTTP/1.1 ${status} ${phrase}\r\n${head.lines}${date}${this.#connectionLines(head)}`;
    return this;
  }

  #headOf(headers: readonly string[] | HeadersByName): HeadText {
    if (!this.#set && isFlat(headers)) return headOfFlat(headers);
    const head = new HeadText();
    if (isFlat(headers))
      for (let at = 0; at < headers.length; at += 2)
        this.#line(head, headers[at] ?? '', headers[at + 1]);
    else
      for (const name of Object.keys(headers)) {
        const value = headers[name];
        if (Array.isArray(value)) for (const each of value) this.#line(head, name, each);
        else this.#line(head, name, value);
      }
    if (this.#set) for (const [name, value] of this.#set.values()) head.add(name, value);
    return head;
  }

  /** What is given with the head goes before what was set. */
  #line(head: HeadText, name: string, value: string | number | undefined): void {
    this.#set?.delete(name.toLowerCase());
    head.add(name, value);
  }

  #connectionLines({ saysConnection }: HeadText): string {
    if (saysConnection) return '';
    if (!this.shouldKeepAlive) return 'connection: close\r\n';
    const seconds = this.#side?.keepAliveS ?? 0;
    return seconds > 0
      ? `connection: keep-alive\r\nkeep-alive: timeout=${seconds}\r\n`
      : 'connection: keep-alive\r\n';
  }

  /** There is nothing to wait for: a plain request has come as a whole. */
  writeContinue(): void {}

  flushHeaders(): void {
    if (this.#head === undefined) this.writeHead(this.statusCode);
    if (this.#isHeadOut || this.destroyed) return;
    this.#send(this.#takeHead(undefined), false);
  }

  write(chunk: Buffer): boolean {
    if (this.destroyed || this.writableEnded) return false;
    if (this.#head === undefined) this.writeHead(this.statusCode);
    if (chunk.length > 0) this.#piece(chunk, false);
    return !this.writableNeedDrain;
  }

  end(body: Buffer | string = NOTHING, encoding: 'latin1' | 'utf8' = 'utf8'): this {
    if (this.destroyed || this.writableEnded) return this;
    if (this.#head === undefined) this.writeHead(this.statusCode);
    this.writableEnded = true;
    const isText = typeof body === 'string' && encoding === 'latin1';
    this.#piece(isText ? body : typeof body === 'string' ? Buffer.from(body) : body, true);
    return this;
  }

  addTrailers(trailers: Readonly<Record<string, string>>): void {
    for (const [name, value] of Object.entries(trailers)) {
      if (!NAME.test(name) || !VALUE.test(value)) throw new Error('a trailer cannot be sent');
      this.#trailers += `${name}: ${value}\r\n`;
    }
  }

  /** Cuts the connection, whose end is told soon, never within this call. */
  destroy(): this {
    this.destroyed = true;
    this.#side?.socket.destroy();
    return this;
  }

  /** What is in the socket has gone. */
  drained(): void {
    if (!this.writableNeedDrain) return;
    this.writableNeedDrain = false;
    this.emit('drain');
  }

  /** The connection is gone, or carries another answer. */
  closed(): void {
    if (this.#side === undefined) return;
    this.#side = undefined;
    this.destroyed = true;
    this.emit('close');
    this.req.closed();
  }

  /** A piece of the body, text being latin-1, with whatever has to stand before and behind it. */
  #piece(piece: Buffer | string, isLast: boolean): void {
    const before = this.#isHeadOut ? '' : this.#takeHead(isLast ? piece.length : undefined);
    const framing = this.#framing;
    if (framing === 'none') {
      if (before !== '' || isLast) this.#send(before, isLast);
      return;
    }
    if (framing !== 'chunked') {
      const left = (framing ?? 0) - piece.length;
      this.#framing = left;
      if (left < 0 || (isLast && left > 0)) {
        this.destroy();
        return;
      }
      this.#join(before, piece, '', isLast);
      return;
    }
    const size = piece.length === 0 ? '' : `${piece.length.toString(16)}\r\n`;
    const end = isLast ? `0\r\n${this.#trailers}\r\n` : '';
    this.#join(before + size, piece, piece.length === 0 ? end : `\r\n${end}`, isLast);
  }

  #join(before: string, piece: Buffer | string, behind: string, isLast: boolean): void {
    if (typeof piece === 'string') this.#send(`${before}${piece}${behind}`, isLast);
    else if (before === '' && behind === '') this.#send(piece, isLast);
    else if (piece.length <= ONE_PIECE_BYTES)
      this.#send(`${before}${piece.toString('latin1')}${behind}`, isLast);
    else {
      const socket = this.#side?.socket;
      socket?.cork();
      if (before !== '') socket?.write(before, 'latin1');
      if (behind === '') this.#send(piece, isLast);
      else {
        socket?.write(piece);
        this.#send(behind, isLast);
      }
      socket?.uncork();
    }
  }

  /** The head, with its last line; `length` is the body's where it is known only now. */
  #takeHead(length: number | undefined): string {
    this.#isHeadOut = true;
    if (this.#framing !== undefined) return `${this.#head}\r\n`;
    // Behind a body that has a length there is no place for trailers.
    this.#framing = this.#trailers === '' ? (length ?? 'chunked') : 'chunked';
    return this.#framing === 'chunked'
      ? `${this.#head}transfer-encoding: chunked\r\n\r\n`
      : `${this.#head}content-length: ${length}\r\n\r\n`;
  }

  /** A whole answer waits for the others of this turn: who takes several is woken once. */
  #send(bytes: Buffer | string, isLast: boolean): void {
    if (isLast && !this.#hasSent) {
      this.#whole = bytes;
      byTurnEnd(this.sendWhole);
    } else this.#sendNow(bytes, isLast);
  }

  /** Writes now what waits for the end of the turn. */
  readonly sendWhole = (): void => {
    if (this.#whole !== undefined) this.#sendNow(this.#whole, true);
    this.#whole = undefined;
  };

  #sendNow(bytes: Buffer | string, isLast: boolean): void {
    const side = this.#side;
    if (!side) return;
    this.#hasSent = true;
    const { socket } = side;
    const more = isLast
      ? socket.write(bytes, 'latin1', this.#onFlushed)
      : socket.write(bytes, 'latin1');
    if (!more) this.writableNeedDrain = true;
  }

  readonly #onFlushed = (error?: Error | null): void => {
    const side = this.#side;
    if (error || !side) return; // the connection tells its end
    this.writableFinished = true;
    this.emit('finish');
    this.closed();
    side.over(this);
  };
}

/** Lines of a head, and what they say about connection and body. */
class HeadText {
  lines = '';
  closes = false;
  saysConnection = false;
  hasDate = false;
  length: number | undefined;

  add(name: string, value: string | number | undefined): void {
    const text = typeof value === 'number' ? String(value) : value;
    if (text === undefined || !NAME.test(name) || !VALUE.test(text))
      throw new Error('a header cannot be sent');
    if (LENGTHS.has(name.length) && !this.#look(name.toLowerCase(), text)) return;
    this.lines += `${name}: ${text}\r\n`;
  }

  /** Whether it is to be written as it is. */
  #look(lower: string, value: string): boolean {
    switch (lower) {
      case 'connection':
        this.saysConnection = true;
        this.closes ||= /(?:^|[\s,])close(?:[\s,]|$)/i.test(value);
        break;
      case 'content-length':
        if (this.length !== undefined || !LENGTH.test(value))
          throw new Error('the length is not sure');
        this.length = Number(value);
        break;
      case 'transfer-encoding':
        return false; // where there is no length, it is ours to say
      case 'date':
        this.hasDate = true;
        break;
    }
    return true;
  }
}

const headOfFlat = madeOnce((headers: readonly string[]) => {
  const head = new HeadText();
  for (let at = 0; at < headers.length; at += 2) head.add(headers[at] ?? '', headers[at + 1]);
  return head;
});

function isFlat(headers: readonly string[] | HeadersByName): headers is readonly string[] {
  return Array.isArray(headers);
}

/** Undefined: by what the body turns out to be. */
function framingOf(isBodyless: boolean, { length }: HeadText): Framing | undefined {
  return isBodyless ? 'none' : length;
}

let secondOf = 0;
let text = '';

/** The value of `date` (RFC 9110 6.6.1). */
function dateNow(): string {
  const second = Math.floor(Date.now() / 1_000);
  if (second !== secondOf) {
    secondOf = second;
    text = new Date(second * 1_000).toUTCString();
  }
  return text;
}
