import type { OutriderError } from '#core/errors';
import type { HttpResponse } from '#core/http-exchange';
import { isRecord } from '#core/is-record';
import { type MessageId, rpcError } from './protocol-error.ts';

/** Of one event; a longer one is not looked into, and so taken for no answer. */
const LOOKED_AT_CHARACTERS = 65_536;
const LINE_END = /\r\n?|\n/g;
/** Ends an event that has begun as one that no client of MCP reads: its type is not `message`. */
const NO_MESSAGE = 'event: incomplete\n\n';

/**
 * The event stream that answers a POST, as its client has it. Where the server is lost it says what can be done: a client that has the id of
 * an event asks for the rest by itself (`Last-Event-ID`), any other waits for ever, and is to be told, or answered by another server in
 * the same stream. Looks at lines as they pass, and keeps what may be an answer, 64 KiB at most.
 * https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation
 */
export class EventAnswer {
  readonly #response: HttpResponse;
  readonly #asked: readonly MessageId[];
  #isOpen = false;
  /** Of a line that has not ended. */
  #line = '';
  #endedInReturn = false;
  /** Of an event that has not ended; undefined where it has no line yet. */
  #data: string | undefined;
  #hasMessage = false;
  #hasId = false;
  /** The data of events that may be answers, until somebody asks. */
  #unread: string[] = [];
  #unreadCharacters = 0;
  readonly #answered = new Set<MessageId>();

  /** `asked`: the ids of the requests in the POST. */
  constructor(response: HttpResponse, asked: readonly MessageId[]) {
    this.#response = response;
    this.#asked = asked;
  }

  /** Its head has gone to the client. */
  get isOpen(): boolean {
    return this.#isOpen;
  }

  open(): void {
    this.#isOpen = true;
  }

  /** Whether the client got nothing that it acts on, so that another server may answer. */
  get isBlank(): boolean {
    const partial = this.#line !== '' && !this.#line.startsWith(':');
    return !this.#hasMessage && !this.#hasId && this.#data === undefined && !partial;
  }

  /** Whether the client waits for an answer that it can get nowhere else. */
  get owes(): boolean {
    return this.#isOpen && !this.#hasId && this.#owed().length > 0;
  }

  /** Whether everything that was asked has been answered. */
  get isAnswered(): boolean {
    return this.#isOpen && this.#owed().length === 0;
  }

  /** Takes note of what goes to the client; `piece` has as many characters as bytes (latin-1). */
  see(piece: string): void {
    let at = this.#endedInReturn && piece.startsWith('\n') ? 1 : 0;
    if (piece !== '') this.#endedInReturn = piece.endsWith('\r');
    LINE_END.lastIndex = at;
    for (let end = LINE_END.exec(piece); end; end = LINE_END.exec(piece)) {
      this.#lineEnds(this.#line + piece.slice(at, end.index));
      this.#line = '';
      at = LINE_END.lastIndex;
    }
    this.#line = (this.#line + piece.slice(at)).slice(0, LOOKED_AT_CHARACTERS);
  }

  #lineEnds(line: string): void {
    if (line.startsWith(':')) return;
    if (line !== '') {
      const data = this.#data ?? '';
      this.#data = data;
      if (/^id: ?./.test(line)) this.#hasId = true;
      if (line.startsWith('data:') && data.length < LOOKED_AT_CHARACTERS)
        this.#data = `${data}${line.slice(5)}\n`;
      return;
    }
    const data = this.#data ?? '';
    this.#data = undefined;
    if (data.trim() === '') return;
    this.#hasMessage = true;
    if (!/"(?:result|error)"/.test(data)) return;
    if (this.#unreadCharacters + data.length > LOOKED_AT_CHARACTERS) this.#read();
    this.#unread.push(data);
    this.#unreadCharacters += data.length;
  }

  #read(): void {
    for (const id of this.#unread.flatMap(answeredIn))
      if (this.#asked.includes(id)) this.#answered.add(id);
    this.#unread = [];
    this.#unreadCharacters = 0;
  }

  #owed(): readonly MessageId[] {
    this.#read();
    return this.#asked.filter((id) => !this.#answered.has(id));
  }

  /** What has to stand before the answer of another server. */
  get joint(): string {
    return this.#line === '' ? '' : '\n';
  }

  /** Ends the stream with `error` as the answer to everything that is owed. Does nothing unless it `owes`. */
  fail(error: OutriderError): void {
    if (!this.owes || this.#response.writableEnded) return;
    const unfinished = this.isBlank ? '' : NO_MESSAGE;
    const errors = this.#owed().map(
      (id) => `data: ${JSON.stringify({ jsonrpc: '2.0', id, error: rpcError(error) })}\n\n`,
    );
    this.#response.end(`${this.joint}${unfinished}${errors.join('')}`);
  }
}

/** A JSON answer as the data of one event: within JSON a line end is white space, and stands in no string. */
export class AsEvent {
  #begun = false;

  piece(chunk: Buffer): Buffer {
    const text = chunk.toString('latin1').replace(/[\r\n]/g, ' ');
    const piece = this.#begun ? text : `data: ${text}`;
    this.#begun ||= text !== '';
    return Buffer.from(text === '' ? '' : piece, 'latin1');
  }

  rest(): Buffer {
    return Buffer.from('\n\n');
  }
}

/** `data` is latin-1 for UTF-8 bytes. */
function answeredIn(data: string): MessageId[] {
  let parsed: unknown;
  try {
    parsed = JSON.parse(Buffer.from(data, 'latin1').toString('utf8'));
  } catch {
    return [];
  }
  const messages: unknown[] = Array.isArray(parsed) ? parsed : [parsed];
  return messages.flatMap((message) => {
    if (!isRecord(message) || !('result' in message || 'error' in message)) return [];
    const { id } = message;
    return typeof id === 'string' || typeof id === 'number' ? [id] : [];
  });
}
