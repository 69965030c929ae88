/** One piece of a stream and where it stands in everything that was written. */
export interface OutputChunk {
  readonly offset: number;
  readonly data: Buffer;
}

/** The tail that is kept of a stream which is longer than its limit. */
const TAIL_MAX = 64 * 1024;

/**
 * Accounts for one output stream of an exec: everything is counted, the first part passes at once, the last part is kept, and
 * what is between is dropped; memory is bounded by the tail. `limit` is in bytes.
 */
export class OutputAccount {
  /** How many bytes pass at once, and how many of the last are kept. */
  readonly keep: { readonly head: number; readonly tail: number };
  readonly #head: number;
  readonly #tailMax: number;
  #tail: Buffer[] = [];
  #tailBytes = 0;
  #passed = 0;
  total = 0;

  constructor(limit: number) {
    this.#tailMax = Math.min(TAIL_MAX, Math.floor(limit / 2));
    this.#head = limit - this.#tailMax;
    this.keep = { head: this.#head, tail: this.#tailMax };
  }

  /** Whether more was written than the limit keeps. */
  get overflowed(): boolean {
    return this.total > this.#head + this.#tailMax;
  }

  /** Takes what was written; returns what passes now. */
  push(data: Buffer): OutputChunk | undefined {
    const offset = this.total;
    this.total += data.length;
    const room = Math.max(0, this.#head - offset);
    if (room < data.length) this.#keep(data.subarray(room));
    if (room === 0) return undefined;
    const passing = data.subarray(0, room);
    this.#passed += passing.length;
    return { offset, data: passing };
  }

  /** Counts what was dropped before it got here; what was kept of the tail came before that, and goes. */
  skip(bytes: number): void {
    this.total += bytes;
    this.#tail = [];
    this.#tailBytes = 0;
  }

  /** The kept tail; call once, at the end. */
  finish(): OutputChunk | undefined {
    if (this.#tailBytes === 0) return undefined;
    const data = Buffer.concat(this.#tail).subarray(-this.#tailMax);
    this.#tail = [];
    this.#passed += data.length;
    return { offset: this.total - data.length, data };
  }

  get account(): { captured: number; total: number; dropped: number } {
    return { captured: this.#passed, total: this.total, dropped: this.total - this.#passed };
  }

  #keep(data: Buffer): void {
    if (this.#tailMax === 0) return;
    this.#tail.push(Buffer.from(data));
    this.#tailBytes += data.length;
    while (this.#tailBytes - (this.#tail[0]?.length ?? 0) >= this.#tailMax)
      this.#tailBytes -= this.#tail.shift()?.length ?? 0;
  }
}

/** The pieces of a stream as one text: where bytes are missing between two, a line says how many. */
export function joinOutput(chunks: readonly OutputChunk[]): Buffer {
  const parts: Buffer[] = [];
  let at = 0;
  for (const { offset, data } of chunks) {
    if (offset > at) parts.push(Buffer.from(`\n[... ${offset - at} bytes dropped ...]\n`));
    parts.push(data);
    at = offset + data.length;
  }
  return Buffer.concat(parts);
}
