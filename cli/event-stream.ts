import { OutriderError } from '#core/errors';

/** One event of a stream, as far as MCP uses it. */
export interface StreamEvent {
  /** Undefined where the event names none, empty where it takes back the last one. */
  readonly id: string | undefined;
  /** How long to wait before the next connection. */
  readonly retryMs: number | undefined;
  /** Undefined for an event without data, which only moves the position. */
  readonly data: string | undefined;
}

/**
 * The events of a `text/event-stream`, as they come (WHATWG HTML section 9.2.6). Comments and other fields are passed over, and so
 * is an event without its closing blank line.
 * @throws {OutriderError} BODY_TOO_LARGE for an event of more than `maxCharacters`
 */
export async function* streamEvents(
  chunks: AsyncIterable<Uint8Array>,
  maxCharacters: number,
): AsyncGenerator<StreamEvent> {
  let fields: string[] = [];
  let length = 0;
  for await (const line of lines(chunks, maxCharacters)) {
    if (line === '') {
      const event = eventOf(fields);
      fields = [];
      length = 0;
      if (event) yield event;
    } else if (!line.startsWith(':')) {
      fields.push(line);
      length += line.length;
      if (length > maxCharacters) throw tooLarge();
    }
  }
}

/** The whole of a body. @throws {OutriderError} BODY_TOO_LARGE for one of more than `maxCharacters` */
export async function boundedText(
  chunks: AsyncIterable<Uint8Array>,
  maxCharacters: number,
): Promise<string> {
  const decoder = new TextDecoder();
  const parts: string[] = [];
  let length = 0;
  for await (const chunk of chunks) {
    const text = decoder.decode(chunk, { stream: true });
    length += text.length;
    if (length > maxCharacters) throw tooLarge();
    parts.push(text);
  }
  return parts.join('') + decoder.decode();
}

function eventOf(fields: readonly string[]): StreamEvent | undefined {
  let id: string | undefined;
  let retryMs: number | undefined;
  let type = '';
  const data: string[] = [];
  for (const field of fields) {
    const [, name = '', value = ''] = /^([^:]*)(?:: ?(.*))?$/s.exec(field) ?? [];
    if (name === 'data') data.push(value);
    else if (name === 'event') type = value;
    else if (name === 'id' && !value.includes('\0')) id = value;
    else if (name === 'retry' && /^\d+$/.test(value)) retryMs = Number(value);
  }
  if (data.length === 0 && id === undefined && retryMs === undefined) return undefined;
  // The events of MCP have no other type; a gateway ends one that was broken off as something else.
  const isMessage = data.length > 0 && (type === '' || type === 'message');
  return { id, retryMs, data: isMessage ? data.join('\n') : undefined };
}

/** Lines ended by LF, CRLF or CR; what stands after the last end is not a line. */
async function* lines(
  chunks: AsyncIterable<Uint8Array>,
  maxCharacters: number,
): AsyncGenerator<string> {
  const decoder = new TextDecoder();
  let parts: string[] = []; // of the line that has not ended; joined once, for a line may come in very many chunks
  let length = 0;
  let afterCarriageReturn = false;
  for await (const chunk of chunks) {
    let text = decoder.decode(chunk, { stream: true });
    if (text === '') continue;
    if (afterCarriageReturn && text.startsWith('\n')) text = text.slice(1);
    afterCarriageReturn = text.endsWith('\r');
    let from = 0;
    for (const end of text.matchAll(/\r\n|\n|\r/g)) {
      parts.push(text.slice(from, end.index));
      yield parts.join('');
      parts = [];
      length = 0;
      from = end.index + end[0].length;
    }
    parts.push(text.slice(from));
    length += text.length - from;
    if (length > maxCharacters) throw tooLarge();
  }
}

function tooLarge(): OutriderError {
  return new OutriderError(
    'BODY_TOO_LARGE',
    'the answer is larger than can be taken; the call may have taken effect',
  );
}
