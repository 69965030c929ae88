/** How a call of a tool ended: `failed` is the tool's own word, `error` anybody else's. */
export type CallOutcome = 'ok' | 'failed' | 'error' | 'denied' | 'cancelled';

const [TAB, LINE_END, RETURN, SPACE] = [0x09, 0x0a, 0x0d, 0x20];
const [QUOTE, COMMA, COLON, BACKSLASH, T] = [0x22, 0x2c, 0x3a, 0x5c, 0x74];
const [OPEN_OBJECT, CLOSE_OBJECT, OPEN_ARRAY, CLOSE_ARRAY] = [0x7b, 0x7d, 0x5b, 0x5d];
/** Longer than any key that is looked for. */
const KEY_MAX = 16;

/**
 * Looks in the bytes of an answer, a message of JSON-RPC or a stream of events with some, for what its status does not say: an `error` of the
 * message, or an `isError` of its result. What a tool says further down is its own. Strings are stepped over whole, and nothing of the answer
 * is kept but the beginning of one.
 */
export class AnswerWatch {
  bytes = 0;
  #failed = false;
  #error = false;
  /** How many brackets are open, and how many of them around each message: 1 in a batch. */
  #depth = 0;
  #around = 0;
  #inResult = false;
  /** The last string, which is a key where a colon follows. */
  #said = '';
  #key = '';
  #inString = false;
  #escaped = false;
  /** Of a stream of events. */
  #inComment = false;
  #lineIsEmpty = true;

  /** `piece`: as many characters as bytes (latin-1). */
  see(piece: string): void {
    this.bytes += piece.length;
    let lineEnd = -1;
    for (let at = 0; at < piece.length; at++) {
      if (this.#inString) {
        if (lineEnd < at) lineEnd = indexOrEnd(piece, '\n', at);
        at = this.#endString(piece, at, lineEnd) - 1;
      } else if (this.#inComment) {
        at = indexOrEnd(piece, '\n', at) - 1;
        this.#inComment = at + 1 === piece.length;
      } else this.#take(piece.charCodeAt(at));
    }
  }

  outcome(status: number | undefined): CallOutcome {
    if (status === undefined) return 'cancelled';
    if (status >= 400 || this.#error) return 'error';
    return this.#failed ? 'failed' : 'ok';
  }

  #take(code: number): void {
    const wasEmpty = this.#lineIsEmpty;
    if (code === LINE_END) {
      // An empty line ends an event, whatever that was.
      if (wasEmpty) this.#reset();
      this.#lineIsEmpty = true;
      return;
    }
    if (code === SPACE || code === TAB || code === RETURN) return;
    this.#lineIsEmpty = false;
    switch (code) {
      case QUOTE:
        this.#said = '';
        this.#inString = true;
        break;
      case COLON:
        if (wasEmpty && this.#depth === 0) this.#inComment = true;
        else this.#key = this.#said;
        this.#said = '';
        break;
      case COMMA:
        this.#key = this.#said = '';
        break;
      case OPEN_OBJECT:
      case OPEN_ARRAY:
        this.#open(code);
        break;
      case CLOSE_OBJECT:
      case CLOSE_ARRAY:
        this.#depth = Math.max(0, this.#depth - 1);
        if (this.#depth <= this.#around + 1) this.#inResult = false;
        break;
      case T:
        if (this.#inResult && this.#key === 'isError' && this.#depth === this.#around + 2)
          this.#failed = true;
        break;
    }
  }

  #open(code: number): void {
    if (this.#depth === 0) this.#around = code === OPEN_ARRAY ? 1 : 0;
    if (code === OPEN_OBJECT && this.#depth === this.#around + 1) {
      this.#error ||= this.#key === 'error';
      this.#inResult = this.#key === 'result';
    }
    this.#depth += 1;
    this.#key = this.#said = '';
  }

  /** Where the string ends that goes on at `at`, or the piece does. No string of JSON goes over the end of a line. */
  #endString(piece: string, at: number, lineEnd: number): number {
    for (let from = at; ; ) {
      const quote = indexOrEnd(piece, '"', from);
      const end = Math.min(quote, lineEnd);
      const escaped = isEscaped(piece, at, end, this.#escaped);
      if (this.#said.length < KEY_MAX)
        this.#said += piece.slice(from, Math.min(end, from + KEY_MAX));
      if (end === quote && end < piece.length && escaped) {
        from = quote + 1;
        continue;
      }
      this.#escaped = end === piece.length && escaped;
      this.#inString = end === piece.length;
      return end === quote ? Math.min(end + 1, piece.length) : end;
    }
  }

  #reset(): void {
    this.#depth = this.#around = 0;
    this.#inResult = false;
    this.#key = this.#said = '';
  }
}

/** Whether an odd number of backslashes stands before `end`; `before`: whether one stood before `start`. */
function isEscaped(text: string, start: number, end: number, before: boolean): boolean {
  let first = end;
  while (first > start && text.charCodeAt(first - 1) === BACKSLASH) first -= 1;
  return ((end - first) % 2 === 1) !== (first === start && before);
}

function indexOrEnd(text: string, sought: string, from: number): number {
  const found = text.indexOf(sought, from);
  return found === -1 ? text.length : found;
}
