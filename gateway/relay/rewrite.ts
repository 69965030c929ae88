import type { IncomingHttpHeaders } from 'node:http';
import { OutriderError } from '#core/errors';

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

/**
 * Applies `change` to the messages of an answer: to the data of each event of a stream as it comes, or to the whole of a JSON
 * answer. What `change` leaves alone keeps its bytes. Undefined for an answer that holds no message.
 * @throws {OutriderError} UPSTREAM_UNREACHABLE for one that is compressed, which no server was asked for
 */
export function rewriteMessages(
  headers: IncomingHttpHeaders,
  change: ChangeMessage,
): Rewrite | undefined {
  const type = headers['content-type'] ?? '';
  if (headers['content-encoding'] !== undefined && headers['content-encoding'] !== 'identity')
    throw new OutriderError('UPSTREAM_UNREACHABLE', 'a server sent an answer that cannot be read');
  if (type.startsWith('text/event-stream'))
    return new Kept(EVENT_END, (event) => changeEvent(event, change));
  return new Kept(undefined, (whole) => changeText(whole, change));
}

/** A blank line, with any of the line ends that an event stream may have. */
const EVENT_END = /\r\n\r\n|\n\n|\r\r|\n\r\n|\r\n\n/g;

/** Comments (keep-alives, mostly) and blank lines before an event: nothing in them is to be changed, and nothing else tells that all is well. */
const BEFORE_EVENT = /^(?:(?::[^\r\n]*)?(?:\r\n|\r|\n))+/;

/** Keeps what is not complete: up to `end`, or all of it. Latin-1 text is bytes, so that nothing is lost on the way. */
class Kept implements Rewrite {
  readonly #end: RegExp | undefined;
  readonly #change: (part: string) => string;
  #kept = '';

  constructor(end: RegExp | undefined, change: (part: string) => string) {
    this.#end = end;
    this.#change = change;
  }

  piece(chunk: Buffer): Buffer {
    this.#kept += chunk.toString('latin1');
    if (this.#kept.length > MESSAGE_MAX_BYTES)
      throw new OutriderError('UPSTREAM_UNREACHABLE', 'a server sent a message that is too large');
    return Buffer.from(this.#complete(), 'latin1');
  }

  rest(): Buffer {
    const left = this.#kept;
    this.#kept = '';
    return Buffer.from(left === '' ? '' : this.#change(left), 'latin1');
  }

  #complete(): string {
    if (!this.#end) return '';
    let done = '';
    let at = 0;
    for (const { 0: end, index } of this.#kept.matchAll(this.#end)) {
      done += this.#change(this.#kept.slice(at, index + end.length));
      at = index + end.length;
    }
    const rest = this.#kept.slice(at);
    const before = BEFORE_EVENT.exec(rest)?.[0] ?? '';
    this.#kept = rest.slice(before.length);
    return done + before;
  }
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
  return [...lines.filter((line) => line !== '' && !isData(line)), `data: ${after}`, '', ''].join(
    '\n',
  );
}

/** `text` and the result are latin-1 for UTF-8 bytes. */
function changeText(text: string, change: ChangeMessage): string {
  let parsed: unknown;
  try {
    parsed = JSON.parse(Buffer.from(text, 'latin1').toString('utf8'));
  } catch {
    return text; // no message, so nothing that a client could read as one
  }
  const changed = Array.isArray(parsed) ? changeBatch(parsed, change) : change(parsed);
  return changed === undefined ? text : Buffer.from(JSON.stringify(changed)).toString('latin1');
}

function changeBatch(messages: readonly unknown[], change: ChangeMessage): unknown {
  const changed = messages.map((message) => change(message));
  if (changed.every((message) => message === undefined)) return undefined;
  return changed.map((message, index) => message ?? messages[index]);
}
