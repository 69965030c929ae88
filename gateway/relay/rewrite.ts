import type { IncomingHttpHeaders } from 'node:http';
import { OutriderError } from '#core/errors';
import { exactly } from '#core/json-text';
import { EVENTS_TYPE, mediaTypeOf } from './media-type.ts';

/** Changes a body on its way to the client. */
export interface Rewrite {
  /** What may go on now; empty while more is needed. @throws {OutriderError} UPSTREAM_UNREACHABLE where too much would have to be kept */
  piece(chunk: Buffer): Buffer;
  /** What is left at the end. */
  rest(): Buffer;
}

/** Changes one JSON-RPC message that a server sends; returns undefined where it passes byte for byte. */
export type ChangeMessage = (message: unknown) => unknown;

/** The largest message that is kept to be changed. */
const MESSAGE_MAX_BYTES = 4 * 2 ** 20;
/** `tools`, the one key under which a message has a list of them, in every way to write it in JSON; it stands in one line, as every text there. */
const LIST_KEY = /"(?:t|\\u0074)(?:o|\\u006f){2}(?:l|\\u006c)(?:s|\\u0073)"/i;
const LIST_KEY_MAX_CHARACTERS = 32;
const NO_BYTES = Buffer.alloc(0);
/** The byte order mark, as latin-1 for UTF-8. */
const MARK = '\u00ef\u00bb\u00bf';
const LINE_END = /\r\n?|\n/g;

/**
 * Applies `change` to the messages of an answer: to the data of each event of a stream as it comes, or to the whole of a JSON
 * answer. What `change` leaves alone keeps its bytes. Undefined for an answer that holds no message.
 * @throws {OutriderError} UPSTREAM_UNREACHABLE for one that is compressed, which no server was asked for
 */
export function rewriteMessages(
  headers: IncomingHttpHeaders,
  change: ChangeMessage,
): Rewrite | undefined {
  if (headers['content-encoding'] !== undefined && headers['content-encoding'] !== 'identity')
    throw new OutriderError('UPSTREAM_UNREACHABLE', 'a server sent an answer that cannot be read');
  return mediaTypeOf(headers) === EVENTS_TYPE ? new Events(change) : new Whole(change);
}

/** Keeps all of it. Latin-1 text is bytes, here and below, so that nothing is lost on the way. */
class Whole implements Rewrite {
  readonly #change: ChangeMessage;
  #kept = '';

  constructor(change: ChangeMessage) {
    this.#change = change;
  }

  piece(chunk: Buffer): Buffer {
    this.#kept += chunk.toString('latin1');
    if (this.#kept.length > MESSAGE_MAX_BYTES) throw tooLarge();
    return NO_BYTES;
  }

  rest(): Buffer {
    return Buffer.from(changeText(this.#kept, this.#change), 'latin1');
  }
}

/**
 * Keeps each event until the blank line that ends it. Comments (keep-alives, mostly) and blank lines before an event go on as they come: nothing in
 * them is to be changed, and nothing else tells that all is well. Whatever a client takes for a line end is one, a mark before the first line is none
 * of it, and goes on, so that a second one stays a part of that: https://html.spec.whatwg.org/multipage/server-sent-events.html#parsing-an-event-stream
 * An event that is too large to be kept goes on as it comes, as long as it cannot be a list: a result may be that large, and is asked for
 * again until it has come.
 */
class Events implements Rewrite {
  readonly #change: ChangeMessage;
  /** What may be the mark, until that is known. */
  #opening: string | undefined = '';
  /** The whole lines of an event. */
  #event = '';
  #line = '';
  /** The event is too large to be kept. Then its line is kept no further back than a key may reach, and so much of it has gone on. */
  #isPassing = false;
  #gone = 0;
  /** Of a line end that may have a second half: where that goes. */
  #halfEnd: 'event' | 'on' | 'nowhere' | undefined;

  constructor(change: ChangeMessage) {
    this.#change = change;
  }

  piece(chunk: Buffer): Buffer {
    const [mark, text] = this.#behindMark(chunk.toString('latin1'));
    if (text === '') return Buffer.from(mark, 'latin1');
    let done = mark + this.#secondHalf(text);
    let at = this.#halfEnd && text.startsWith('\n') ? 1 : 0;
    this.#halfEnd = undefined;
    LINE_END.lastIndex = at;
    for (let end = LINE_END.exec(text); end; end = LINE_END.exec(text)) {
      done += this.#lineEnds(this.#line + text.slice(at, end.index), end[0]);
      this.#line = '';
      this.#gone = 0;
      at = LINE_END.lastIndex;
    }
    this.#line += text.slice(at);
    if (!text.endsWith('\r')) this.#halfEnd = undefined;
    if (this.#event.length + this.#line.length > MESSAGE_MAX_BYTES) this.#isPassing = true;
    if (this.#isPassing) done += this.#goOn();
    return Buffer.from(done, 'latin1');
  }

  rest(): Buffer {
    if (this.#isPassing) return NO_BYTES;
    const left = (this.#opening ?? '') + this.#event + this.#line;
    return Buffer.from(left === '' ? '' : changeEvent(left, this.#change), 'latin1');
  }

  #behindMark(piece: string): readonly [mark: string, text: string] {
    if (this.#opening === undefined) return ['', piece];
    const opening = this.#opening + piece;
    this.#opening = opening !== MARK && MARK.startsWith(opening) ? opening : undefined;
    if (this.#opening !== undefined) return ['', ''];
    return opening.startsWith(MARK) ? [MARK, opening.slice(MARK.length)] : ['', opening];
  }

  #secondHalf(text: string): string {
    if (!text.startsWith('\n')) return '';
    if (this.#halfEnd === 'event') this.#event += '\n';
    return this.#halfEnd === 'on' ? '\n' : '';
  }

  /** What goes on of an event that passes. @throws {OutriderError} UPSTREAM_UNREACHABLE where it may be a list */
  #goOn(): string {
    assertNoList(this.#event);
    assertNoList(this.#line);
    const more = this.#event + this.#line.slice(this.#gone);
    if (this.#halfEnd === 'event') this.#halfEnd = 'on';
    this.#event = '';
    this.#line = this.#line.slice(-LIST_KEY_MAX_CHARACTERS);
    this.#gone = this.#line.length;
    return more;
  }

  /** What goes on with the end of a line. */
  #lineEnds(line: string, end: string): string {
    if (this.#isPassing) return this.#passingEnds(line, end);
    const [kept, whole] = [this.#event, this.#event + line + end];
    const isHalf = end === '\r';
    if (kept === '' && (line === '' || line.startsWith(':'))) {
      if (isHalf) this.#halfEnd = 'on';
      return whole;
    }
    this.#event = line === '' ? '' : whole;
    if (line !== '') {
      if (isHalf) this.#halfEnd = 'event';
      return '';
    }
    const changed = changeEvent(whole, this.#change);
    if (isHalf) this.#halfEnd = changed === whole ? 'on' : 'nowhere';
    return changed;
  }

  #passingEnds(line: string, end: string): string {
    assertNoList(line);
    if (line === '') this.#isPassing = false;
    if (end === '\r') this.#halfEnd = 'on';
    return line.slice(this.#gone) + end;
  }
}

/** The key may as well be another's: who could tell would have to keep the whole. */
function assertNoList(text: string): void {
  if (LIST_KEY.test(text)) throw tooLarge();
}

function tooLarge(): OutriderError {
  return new OutriderError('UPSTREAM_UNREACHABLE', 'a server sent a message that is too large');
}

/** The event with its data changed, in one line; the other fields keep their order. */
function changeEvent(event: string, change: ChangeMessage): string {
  const lines = event.split(/\r\n|\n|\r/);
  const isData = (line: string) => /^data(:|$)/.test(line);
  const data = lines.filter(isData).map((line) => line.replace(/^data(: ?|$)/, ''));
  if (data.length === 0) return event;
  const before = data.join('\n');
  const after = changeText(before, change);
  if (after === before) return event;
  // Before the first line of a stream a mark would be none of it, and what follows it a field.
  const others = lines.filter((line) => line !== '' && !isData(line) && !line.startsWith(MARK));
  return [...others, `data: ${after}`, '', ''].join('\n');
}

/** `text` and the result are latin-1 for UTF-8 bytes. @throws {OutriderError} UPSTREAM_UNREACHABLE where it is nested too deep to be written */
function changeText(text: string, change: ChangeMessage): string {
  // Those that read an answer as UTF-8 drop a mark before it.
  const json = Buffer.from(text, 'latin1')
    .toString('utf8')
    .replace(/^\ufeff/, '');
  let parsed: unknown;
  try {
    parsed = JSON.parse(json);
  } catch {
    return text; // no message, so nothing that a client could read as one
  }
  if (changedBy(parsed, change) === undefined) return text;
  try {
    const written = JSON.stringify(changedBy(exactly(json), change));
    return Buffer.from(written).toString('latin1');
  } catch (cause) {
    const message = 'a server sent an answer that cannot be changed';
    throw new OutriderError('UPSTREAM_UNREACHABLE', message, { cause });
  }
}

function changedBy(parsed: unknown, change: ChangeMessage): unknown {
  return Array.isArray(parsed) ? changeBatch(parsed, change) : change(parsed);
}

function changeBatch(messages: readonly unknown[], change: ChangeMessage): unknown {
  const changed = messages.map((message) => change(message));
  if (changed.every((message) => message === undefined)) return undefined;
  return changed.map((message, index) => message ?? messages[index]);
}
