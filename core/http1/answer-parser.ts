import { type AnswerHead, AnswerHeads, mayBegin, readTrailers } from './answer-head.ts';
import { Http1Error } from './error.ts';

/** Who is told what comes. After `onEnd` or `onUpgrade` nothing more comes of this answer. */
export interface AnswerEvents {
  /** Of interim answers too, whose status is below 200. */
  onHead(head: AnswerHead): void;
  onData(chunk: Buffer): void;
  onEnd(trailers: string[]): void;
  /** What came behind the head is no HTTP any more. */
  onUpgrade(head: AnswerHead, rest: Buffer): void;
}

/** What comes next. */
type State =
  | 'nothing'
  | 'head'
  | 'length'
  | 'chunk-size'
  | 'chunk'
  | 'chunk-end'
  | 'trailers'
  | 'close'
  | 'foreign';

const HEAD_END = Buffer.from('\r\n\r\n');
const LINE_END = Buffer.from('\r\n');
const LF = 10;
/** Of a chunk-size with its extensions; longer ones are only there to be in the way. */
const CHUNK_LINE_MAX = 512;
const TOKEN = "[!#$%&'*+.^_`|~\\w-]+";
const CHUNK_LINE = new RegExp(
  `^([0-9a-f]{1,8})(?:;${TOKEN}(?:=(?:${TOKEN}|"[\\t\\x20\\x21\\x23-\\x5b\\x5d-\\x7e\\x80-\\xff]*"))?)*$`,
  'i',
);

/**
 * Reads the answers of one connection (RFC 9112), in whatever pieces they come. Where there are two ways to read something it is MALFORMED:
 * nothing here is lenient, since what stands behind may read it the other way.
 */
export class AnswerParser {
  readonly #events: AnswerEvents;
  readonly #headMaxBytes: number;
  readonly #heads = new AnswerHeads();
  #state: State = 'nothing';
  #method = '';
  #upgrades = false;
  #persists = false;
  /** Bytes of the body, or of the chunk, that are still to come. */
  #left = 0;
  /** The beginning of what is read as a whole. */
  #held: Buffer[] = [];
  #heldBytes = 0;
  /** What of the body has come in this piece. */
  #chunks: Buffer[] = [];
  /** Of an answer that has just become whole. */
  #trailers: string[] | undefined;

  constructor(events: AnswerEvents, headMaxBytes: number) {
    this.#events = events;
    this.#headMaxBytes = headMaxBytes;
  }

  /** An answer to a request of this method comes next; to one that asks for another protocol where `upgrades`. */
  expect(method: string, upgrades = false): void {
    this.#state = 'head';
    this.#method = method;
    this.#upgrades = upgrades;
  }

  /** Whether the answer is whole, and another may come on this connection. */
  get reusable(): boolean {
    return this.#state === 'nothing' && this.#persists;
  }

  /** Nobody listens any more. */
  stop(): void {
    this.#state = 'foreign';
    this.#persists = false;
  }

  /** @throws {Http1Error} MALFORMED, and what a listener throws; it must not be used after that */
  push(bytes: Buffer): void {
    try {
      let rest: Buffer | undefined = bytes;
      while (rest !== undefined && rest.length > 0 && !this.#trailers) rest = this.#take(rest);
      // What comes behind an answer answers nothing: it must not pass for the answer to what is asked next.
      if (rest !== undefined && rest.length > 0) this.#persists = false;
    } finally {
      this.#tellChunks();
    }
    if (this.#trailers) this.#end();
  }

  /** The connection has ended. @throws {Http1Error} CLOSED where that is too early */
  end(): void {
    if (this.#state === 'close') {
      this.#finish([]);
      this.#end();
    } else if (this.#state !== 'nothing' && this.#state !== 'foreign')
      throw new Http1Error('CLOSED', 'the connection ended within an answer');
  }

  /** Reads on from here; returns what is left to be read. */
  #take(bytes: Buffer): Buffer | undefined {
    const state: string = this.#state;
    switch (state) {
      case 'head':
        return this.#takeHead(bytes);
      case 'length':
        return this.#takeLength(bytes);
      case 'chunk-size':
        return this.#takeChunkSize(bytes);
      case 'chunk':
        return this.#takeChunk(bytes);
      case 'chunk-end':
        return this.#takeChunkEnd(bytes);
      case 'trailers':
        return this.#takeTrailers(bytes);
      case 'close':
        this.#events.onData(bytes);
        return undefined;
      default:
        // Nothing or something foreign is due: nobody asked for it: what comes on this connection from now on answers nothing.
        this.#persists = false;
        return undefined;
    }
  }

  #takeHead(bytes: Buffer): Buffer | undefined {
    const whole = this.#until(HEAD_END, bytes, this.#headMaxBytes);
    if (!whole) {
      // What is no HTTP may never have an end.
      if (!mayBegin(this.#held)) throw new Http1Error('MALFORMED', 'an answer is no HTTP');
      return undefined;
    }
    const head = this.#heads.read(whole.text);
    const { status } = head;
    if (status === 101 ? this.#upgrades : this.#method === 'CONNECT' && status >= 200) {
      this.#state = 'foreign';
      this.#events.onUpgrade(head, whole.rest);
      return undefined;
    }
    if (status === 101) throw new Http1Error('MALFORMED', 'nobody asked for another protocol');
    if (status >= 200) {
      this.#persists = head.persists;
      this.#state = this.#bodyOf(head);
    }
    this.#events.onHead(head);
    if (status >= 200 && this.#state === 'nothing') this.#finish([]);
    return whole.rest;
  }

  /** RFC 9112, 6.3. */
  #bodyOf({ status, chunked, length }: AnswerHead): State {
    if (this.#method === 'HEAD' || status === 204 || status === 304) return 'nothing';
    if (chunked) return 'chunk-size';
    if (length === undefined) {
      this.#persists = false;
      return 'close';
    }
    this.#left = length;
    return length === 0 ? 'nothing' : 'length';
  }

  #takeLength(bytes: Buffer): Buffer | undefined {
    const taken = this.#taken(bytes);
    this.#events.onData(taken);
    if (this.#state !== 'length') return undefined; // it was stopped
    if (this.#left === 0) this.#finish([]);
    return bytes.subarray(taken.length);
  }

  #takeChunk(bytes: Buffer): Buffer | undefined {
    const taken = this.#taken(bytes);
    this.#chunks.push(taken);
    if (this.#left === 0) this.#state = 'chunk-end';
    return bytes.subarray(taken.length);
  }

  #taken(bytes: Buffer): Buffer {
    const taken = bytes.length <= this.#left ? bytes : bytes.subarray(0, this.#left);
    this.#left -= taken.length;
    return taken;
  }

  /** All that came at once as one piece: how small the chunks are is the other side's to choose, and each would cost as much as a large one. */
  #tellChunks(): void {
    const [first, ...more] = this.#chunks;
    if (!first) return;
    this.#chunks = [];
    if (this.#state !== 'foreign')
      this.#events.onData(more.length === 0 ? first : Buffer.concat([first, ...more]));
  }

  #takeChunkSize(bytes: Buffer): Buffer | undefined {
    const line = this.#until(LINE_END, bytes, CHUNK_LINE_MAX);
    if (!line) return undefined;
    const size = CHUNK_LINE.exec(line.text.slice(0, -2))?.[1];
    if (size === undefined) throw new Http1Error('MALFORMED', 'a chunk has no size');
    this.#left = Number.parseInt(size, 16);
    this.#state = this.#left === 0 ? 'trailers' : 'chunk';
    return line.rest;
  }

  #takeChunkEnd(bytes: Buffer): Buffer | undefined {
    const line = this.#until(LINE_END, bytes, LINE_END.length);
    if (!line) return undefined;
    this.#state = 'chunk-size';
    return line.rest;
  }

  #takeTrailers(bytes: Buffer): Buffer | undefined {
    const begun = this.#heldBytes > 0 ? this.#joined(bytes) : bytes;
    if (begun.length >= 2 && begun[0] === 13 && begun[1] === LF) {
      this.#finish([]);
      return begun.subarray(2);
    }
    const whole = this.#until(HEAD_END, begun, this.#headMaxBytes);
    if (!whole) return undefined;
    this.#finish(readTrailers(whole.text));
    return whole.rest;
  }

  /**
   * What comes up to and with `end`, without the last two bytes of `HEAD_END`, as Latin-1; undefined where more must come, which is then held.
   * @throws {Http1Error} MALFORMED where it is longer than `maxBytes`
   */
  #until(
    end: Buffer,
    bytes: Buffer,
    maxBytes: number,
  ): { readonly text: string; readonly rest: Buffer } | undefined {
    // Every end has a line feed: what is without one is only kept.
    const ends = bytes.includes(LF);
    const all = ends ? this.#joined(bytes) : bytes;
    const at = ends ? all.indexOf(end) : -1;
    const size = at < 0 ? all.length + this.#heldBytes : at + end.length;
    if (size > maxBytes) throw new Http1Error('MALFORMED', 'a line or a head is too long');
    if (at >= 0)
      return { text: all.toString('latin1', 0, at + 2), rest: all.subarray(at + end.length) };
    this.#held.push(all);
    this.#heldBytes += all.length;
    return undefined;
  }

  /** What was held, and these; nothing is held any more. */
  #joined(bytes: Buffer): Buffer {
    if (this.#heldBytes === 0) return bytes;
    const all = Buffer.concat([...this.#held, bytes]);
    this.#held = [];
    this.#heldBytes = 0;
    return all;
  }

  #finish(trailers: string[]): void {
    this.#state = 'nothing';
    this.#trailers = trailers;
  }

  #end(): void {
    const trailers = this.#trailers ?? [];
    this.#trailers = undefined;
    this.#events.onEnd(trailers);
  }
}
