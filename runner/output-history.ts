import type { OutputChunk } from './output.ts';

const BLOCK_BYTES = 64 * 1024;

/**
 * The newest part of one output stream, at least `keepBytes` of it and at most a block of 64 KiB more, in few pieces however
 * small those were that came.
 */
export class OutputHistory {
  readonly #keepBytes: number;
  /** Oldest first; a piece begins a block, and its data may grow to the block's end. */
  #pieces: { offset: number; block: Buffer; used: number }[] = [];
  #bytes = 0;

  constructor(keepBytes: number) {
    this.#keepBytes = keepBytes;
  }

  /** Bytes that are kept. */
  get bytes(): number {
    return this.#bytes;
  }

  push({ offset, data }: OutputChunk): void {
    for (let from = 0; from < data.length; ) {
      const piece = this.#pieceAt(offset + from);
      const copied = data.copy(piece.block, piece.used, from);
      piece.used += copied;
      from += copied;
      this.#bytes += copied;
    }
    for (let [first] = this.#pieces; first && this.#bytes - first.used >= this.#keepBytes; ) {
      this.#bytes -= first.used;
      this.#pieces.shift();
      [first] = this.#pieces;
    }
  }

  /** What is kept now; what comes later does not change it. */
  chunks(): OutputChunk[] {
    return this.#pieces.map(({ offset, block, used }) => ({
      offset,
      data: block.subarray(0, used),
    }));
  }

  /** Lets go of the room for more. */
  finish(): void {
    this.#pieces = this.#pieces.map(({ offset, block, used }) => ({
      offset,
      block: Buffer.from(block.subarray(0, used)),
      used,
    }));
  }

  clear(): void {
    this.#pieces = [];
    this.#bytes = 0;
  }

  /** The block that takes the byte at this offset: the last one where it has room and nothing is missing between. */
  #pieceAt(offset: number): { offset: number; block: Buffer; used: number } {
    const last = this.#pieces.at(-1);
    if (last && last.used < last.block.length && last.offset + last.used === offset) return last;
    const piece = { offset, block: Buffer.allocUnsafeSlow(BLOCK_BYTES), used: 0 };
    this.#pieces.push(piece);
    return piece;
  }
}
