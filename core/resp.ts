/** A reply of Redis. An error is a value here: one command of many may have failed. */
export type Reply = string | number | null | RedisError | readonly Reply[];

/** What Redis refuses, by its kind alone: the rest of its words may hold what was asked. */
export class RedisError extends Error {
  /** `NOSCRIPT`, `WRONGTYPE`, `OOM` and so on. */
  readonly kind: string;

  constructor(words: string) {
    const [kind = ''] = words.split(' ', 1);
    super(`Redis refused: ${kind}`);
    this.kind = kind;
  }
}

/** One command in the protocol of Redis (RESP2). */
export function encode(words: readonly (string | number)[]): string {
  const parts = words.map(String).map((word) => `$${Buffer.byteLength(word)}\r\n${word}\r\n`);
  return `*${words.length}\r\n${parts.join('')}`;
}

/** Larger than any reply that is asked for: what claims more is not Redis. */
const REPLY_MAX_BYTES = 1_048_576;
const LINE_MAX_BYTES = 65_536;

/** Reads replies as their bytes come. */
export class ReplyReader {
  #rest: Buffer = Buffer.alloc(0);

  /** The replies that are whole now. @throws {Error} where the bytes are not the protocol */
  push(chunk: Buffer): Reply[] {
    this.#rest = this.#rest.length === 0 ? chunk : Buffer.concat([this.#rest, chunk]);
    const replies: Reply[] = [];
    for (;;) {
      const read = readReply(this.#rest, 0);
      if (!read) break;
      replies.push(read.reply);
      this.#rest = this.#rest.subarray(read.end);
    }
    if (this.#rest.length > REPLY_MAX_BYTES) throw new Error('a reply without end');
    return replies;
  }
}

interface Read {
  readonly reply: Reply;
  readonly end: number;
}

/** The reply that begins at `at`; undefined while it is not whole. */
function readReply(bytes: Buffer, at: number): Read | undefined {
  const lineEnd = bytes.indexOf('\r\n', at);
  if (lineEnd < 0) {
    const isText = /^[-+]/.test(bytes.toString('latin1', at, at + 1));
    if (bytes.length - at > (isText ? LINE_MAX_BYTES : 64)) throw new Error('not a reply of Redis');
    return undefined;
  }
  const kind = bytes.toString('latin1', at, at + 1);
  const text = bytes.toString('utf8', at + 1, lineEnd);
  const end = lineEnd + 2;
  if (kind === '+') return { reply: text, end };
  if (kind === '-') return { reply: new RedisError(text), end };
  const number = Number(text);
  if (!/^-?\d+$/.test(text) || !Number.isSafeInteger(number))
    throw new Error('not a reply of Redis');
  if (kind === ':') return { reply: number, end };
  if (kind === '$') return readBulk(bytes, end, number);
  if (kind === '*') return readArray(bytes, end, number);
  throw new Error('not a reply of Redis');
}

function readBulk(bytes: Buffer, at: number, length: number): Read | undefined {
  if (length < 0) return { reply: null, end: at };
  if (length > REPLY_MAX_BYTES) throw new Error('a reply without end');
  const end = at + length + 2;
  return bytes.length < end ? undefined : { reply: bytes.toString('utf8', at, end - 2), end };
}

function readArray(bytes: Buffer, at: number, length: number): Read | undefined {
  if (length > REPLY_MAX_BYTES) throw new Error('a reply without end');
  const items: Reply[] = [];
  let end = at;
  for (let index = 0; index < length; index++) {
    const item = readReply(bytes, end);
    if (!item) return undefined;
    items.push(item.reply);
    end = item.end;
  }
  return { reply: length < 0 ? null : items, end };
}
