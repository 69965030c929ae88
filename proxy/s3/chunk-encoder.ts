import { createHash } from 'node:crypto';
import { chunkSignature, type SignatureChain, trailerSignature } from './chunk-decoder.ts';

/** How much of a body is signed at once, where the caller's own chunks do not say better. */
export const CHUNK_BYTES = 131_072;
/** What clients cut into; S3 wants at least 8 KiB of every chunk but the last. */
const USUAL_BYTES = [65_536, CHUNK_BYTES, 8_192, 16_384, 32_768, 262_144, 524_288, 1_048_576];

const SIGNATURE_BYTES = ';chunk-signature='.length + 64;

/** The length of an upload of `length` bytes once it is in signed chunks, with the trailer where there is one. */
export function encodedLength(
  length: number,
  trailer?: { name: string; valueBytes: number },
  chunkBytes = CHUNK_BYTES,
): number {
  const whole = Math.floor(length / chunkBytes);
  const rest = length % chunkBytes;
  const framed =
    whole * frameBytes(chunkBytes) + (rest > 0 ? frameBytes(rest) : 0) + frameBytes(0) - 2;
  const trailing = trailer
    ? trailer.name.length + 1 + trailer.valueBytes + 2 + 'x-amz-trailer-signature:'.length + 64 + 2
    : 0;
  return framed + trailing + 2;
}

/** The size of the chunks in which `length` bytes are `encoded` bytes long, so that one hash can serve both sides; ours where none fits. */
export function chunkBytesOf(length: number, encoded: number | undefined): number {
  const fits = (bytes: number) => encodedLength(length, undefined, bytes) === encoded;
  return USUAL_BYTES.find(fits) ?? CHUNK_BYTES;
}

function frameBytes(data: number): number {
  return data.toString(16).length + SIGNATURE_BYTES + 2 + data + 2;
}

/** Puts a body into signed chunks of one size. Holds one of them at most. */
export class ChunkEncoder {
  readonly #chain: SignatureChain;
  readonly #chunkBytes: number;
  readonly #emit: (bytes: Buffer) => void;
  #pending: Buffer[] = [];
  #held = 0;
  #previous: string;
  /** What ends the chunk before; written with the next one's head, which saves a write. */
  #ending = '';

  constructor(chain: SignatureChain, chunkBytes: number, emit: (bytes: Buffer) => void) {
    this.#chain = chain;
    this.#chunkBytes = chunkBytes;
    this.#emit = emit;
    this.#previous = chain.seed;
  }

  push(data: Buffer): void {
    for (let at = 0; at < data.length; ) {
      // Not sooner: `hashed` may come in between.
      if (this.#held === this.#chunkBytes) this.#flush();
      const piece = data.subarray(at, at + this.#chunkBytes - this.#held);
      this.#pending.push(piece);
      this.#held += piece.length;
      at += piece.length;
    }
  }

  /** Says the SHA-256 of the last `length` bytes that were pushed: where they are just one chunk, it need not be made again. */
  hashed(hash: string, length: number): void {
    if (length === this.#held && length === this.#chunkBytes) this.#flush(hash);
  }

  /** The rest, the last chunk, and the trailer. Only now can the other side take the upload for whole. */
  end(trailer?: { readonly name: string; readonly value: string }): void {
    if (this.#held > 0) this.#flush();
    this.#flush();
    if (trailer) {
      const { name, value } = trailer;
      const signed = trailerSignature(this.#chain, this.#previous, name, value);
      this.#emit(Buffer.from(`${name}:${value}\r\nx-amz-trailer-signature:${signed}\r\n`));
    }
    this.#emit(Buffer.from('\r\n'));
  }

  #flush(hash = hashOf(this.#pending)): void {
    this.#previous = chunkSignature(this.#chain, this.#previous, hash);
    const head = `${this.#held.toString(16)};chunk-signature=${this.#previous}\r\n`;
    this.#emit(Buffer.from(`${this.#ending}${head}`));
    for (const piece of this.#pending) this.#emit(piece);
    this.#ending = '\r\n';
    this.#pending = [];
    this.#held = 0;
  }
}

function hashOf(pieces: readonly Buffer[]): string {
  const hash = createHash('sha256');
  for (const piece of pieces) hash.update(piece);
  return hash.digest('hex');
}
