/** One answer of a Redis; null where there is nothing of that name. */
export type Reply = string | number | null | Error;

/** Longer than any answer that we ask for. */
const REPLY_MAX_BYTES = 65_536;

/** Puts the answers of a Redis together as their bytes come (RESP2; no arrays: nothing that we ask for has one). */
export class ReplyReader {
  #rest: Buffer = Buffer.alloc(0);

  /** The answers that are whole with this chunk. @throws {Error} for what no Redis says */
  read(chunk: Buffer): Reply[] {
    this.#rest = Buffer.concat([this.#rest, chunk]);
    const replies: Reply[] = [];
    for (let found = this.#next(); found !== undefined; found = this.#next()) replies.push(found);
    if (this.#rest.length > REPLY_MAX_BYTES) throw new Error('an answer of Redis is too long');
    return replies;
  }

  #next(): Reply | undefined {
    const end = this.#rest.indexOf('\r\n');
    if (end < 0) return undefined;
    const line = this.#rest.toString('utf8', 1, end);
    const kind = String.fromCharCode(this.#rest[0] ?? 0);
    if (kind === '$' && line !== '-1') return this.#bulk(end + 2, Number(line));
    this.#rest = this.#rest.subarray(end + 2);
    if (kind === '+') return line;
    if (kind === ':') return Number(line);
    if (kind === '$') return null;
    // Its text may hold what was asked: only the word before it is told.
    if (kind === '-') return new Error(`Redis refused: ${line.split(' ', 1)[0]}`);
    throw new Error('this is no Redis');
  }

  #bulk(from: number, length: number): string | undefined {
    if (!Number.isInteger(length) || length < 0 || length > REPLY_MAX_BYTES)
      throw new Error('an answer of Redis is too long');
    if (this.#rest.length < from + length + 2) return undefined;
    const text = this.#rest.toString('utf8', from, from + length);
    this.#rest = this.#rest.subarray(from + length + 2);
    return text;
  }
}
