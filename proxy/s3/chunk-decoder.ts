import { createHash, type Hash } from 'node:crypto';
import type { OutriderError } from '#core/errors';
import type { Reason } from '#policies';
import { refused } from '../refusal.ts';
import { EMPTY_SHA256, hmac, type SigningScope, scopeText, sha256 } from './sigv4.ts';
import { CHECKSUM_BYTES } from './upload.ts';

/** The chain of signatures of one upload: each is made over the one before. */
export interface SignatureChain {
  readonly key: Buffer;
  readonly scope: SigningScope;
  /** The signature of the request itself. */
  readonly seed: string;
}

export interface DecoderOptions {
  /** Verified where it is given; absent: chunks carry no signature. */
  readonly chain: SignatureChain | undefined;
  /** How many bytes the body must have. */
  readonly length: number;
  /** The one trailer that the request announced, in lower case. */
  readonly trailer: string | undefined;
  readonly onData: (data: Buffer) => void;
  /** At the end of a chunk whose signature was right: the SHA-256 of its data, and how long that is. */
  readonly onVerified?: (hash: string, length: number) => void;
}

/** `<hex>;chunk-signature=<64 hex>`, and trailers: nothing longer is a line of this format. */
const LINE_MAX_BYTES = 512;
const CR = 13;
const LF = 10;

type State = 'size' | 'data' | 'data-end' | 'trailer' | 'over';

/**
 * Takes `aws-chunked` bodies apart. Data is handed on as it comes and verified by the end of its chunk, so nothing may be taken for
 * whole before `end` has returned. Holds a line at most.
 * https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-streaming.html and sigv4-streaming-trailers.html
 */
export class ChunkDecoder {
  readonly #options: DecoderOptions;
  #state: State = 'size';
  #line = Buffer.alloc(0);
  #left = 0;
  #chunk = 0;
  #decoded = 0;
  #previous: string;
  #claimed: string | undefined;
  #hash: Hash | undefined;
  #trailer: string | undefined;
  #trailerSignature: string | undefined;

  constructor(options: DecoderOptions) {
    this.#options = options;
    this.#previous = options.chain?.seed ?? '';
  }

  /** The value of the announced trailer; undefined before its end. */
  get trailer(): string | undefined {
    return this.#trailer;
  }

  /** @throws {OutriderError} INVALID_REQUEST, EGRESS_DENIED (sigv4_chunk_signature) */
  push(bytes: Buffer): void {
    let at = 0;
    while (at < bytes.length) {
      if (this.#state === 'over') throw framing('there is something behind the last chunk');
      if (this.#state === 'data') at += this.#data(bytes.subarray(at, at + this.#left));
      else at += this.#lineBytes(bytes.subarray(at));
    }
  }

  /** To be called when the request has ended. @throws as `push`, where it ended too early */
  end(): void {
    if (this.#state !== 'over') throw framing('the upload ends before its last chunk');
    if (this.#decoded !== this.#options.length)
      throw framing('the upload is not as long as x-amz-decoded-content-length says');
  }

  #data(data: Buffer): number {
    this.#hash?.update(data);
    this.#left -= data.length;
    this.#options.onData(data);
    if (this.#left === 0) {
      this.#verifyChunk();
      this.#state = 'data-end';
    }
    return data.length;
  }

  /** Collects a line and reads it at its end; returns how much was taken. */
  #lineBytes(bytes: Buffer): number {
    const end = bytes.indexOf(LF);
    const piece = end < 0 ? bytes : bytes.subarray(0, end + 1);
    if (this.#line.length + piece.length > LINE_MAX_BYTES)
      throw framing('a line of a chunk is too long');
    this.#line = Buffer.concat([this.#line, piece]);
    if (end >= 0 && this.#endsLine()) {
      const text = this.#line.subarray(0, -2).toString('latin1');
      this.#line = Buffer.alloc(0);
      this.#read(text);
    }
    return piece.length;
  }

  /** A line ends with CR LF; some clients write a line feed more behind the value of a trailer, which AWS takes (its own example has it). */
  #endsLine(): boolean {
    if (this.#line.at(-2) === CR) return true;
    if (this.#state === 'trailer' && this.#line.length > 1) return false;
    throw framing('a line of a chunk does not end with CR LF');
  }

  #read(line: string): void {
    if (this.#state === 'size') this.#size(line);
    else if (this.#state === 'data-end') {
      if (line !== '') throw framing('a chunk does not end where it says');
      this.#state = 'size';
    } else if (line === '') this.#endOfTrailers();
    else this.#trailerLine(line.replace(/\n$/, ''));
  }

  #size(line: string): void {
    const { chain, length } = this.#options;
    const [, hex, claimed] =
      /^([0-9A-Fa-f]{1,12})(?:;chunk-signature=([0-9a-f]{64}))?$/.exec(line) ?? [];
    if (hex === undefined) throw framing('a chunk size is not valid');
    if ((claimed === undefined) !== (chain === undefined))
      throw chain ? unsigned('a chunk has no signature') : framing('a chunk size is not valid');
    this.#claimed = claimed;
    this.#left = this.#chunk = Number.parseInt(hex, 16);
    this.#decoded += this.#left;
    if (this.#decoded > length)
      throw framing('the upload is longer than x-amz-decoded-content-length says');
    this.#hash = chain && createHash('sha256');
    if (this.#left > 0) this.#state = 'data';
    else {
      this.#verifyChunk();
      this.#state = 'trailer';
    }
  }

  #verifyChunk(): void {
    const { chain } = this.#options;
    if (!chain || !this.#hash) return;
    const hash = this.#hash.digest('hex');
    const expected = chunkSignature(chain, this.#previous, hash);
    // Neither is a secret: the key that it is made with is in every sandbox.
    if (expected !== this.#claimed) throw unsigned('a chunk signature is not valid');
    this.#previous = expected;
    this.#options.onVerified?.(hash, this.#chunk);
  }

  #trailerLine(line: string): void {
    const { trailer, chain } = this.#options;
    const [, name = '', value = ''] = /^([A-Za-z0-9-]+): *([\x21-\x7e]{1,256})$/.exec(line) ?? [];
    const lower = name.toLowerCase();
    if (lower === 'x-amz-trailer-signature' && chain && this.#trailerSignature === undefined)
      this.#trailerSignature = value;
    else if (lower !== '' && lower === trailer && this.#trailer === undefined)
      this.#trailer = value;
    else throw trailing('a trailer is not the one that x-amz-trailer announces');
  }

  #endOfTrailers(): void {
    const { chain, trailer } = this.#options;
    if (trailer !== undefined && this.#trailer === undefined)
      throw trailing('the trailer that x-amz-trailer announces is missing');
    if (trailer !== undefined && this.#trailer?.length !== CHECKSUM_BYTES[trailer])
      throw trailing(`what stands in ${trailer} is no checksum of that kind in base64`);
    if (chain && trailer !== undefined) {
      const expected = trailerSignature(chain, this.#previous, trailer, this.#trailer ?? '');
      if (expected !== this.#trailerSignature)
        throw unsigned('the signature of the trailer is not valid');
    }
    this.#state = 'over';
  }
}

/** The signature of one chunk whose SHA-256 is `hash`. */
export function chunkSignature(chain: SignatureChain, previous: string, hash: string): string {
  return chained('AWS4-HMAC-SHA256-PAYLOAD', chain, [previous, EMPTY_SHA256, hash]);
}

/** The signature of the trailer of one upload, behind that of its last chunk. */
export function trailerSignature(
  chain: SignatureChain,
  previous: string,
  name: string,
  value: string,
): string {
  return chained('AWS4-HMAC-SHA256-TRAILER', chain, [previous, sha256(`${name}:${value}\n`)]);
}

function chained(word: string, { key, scope }: SignatureChain, lines: readonly string[]): string {
  return hmac(key, [word, scope.time, scopeText(scope), ...lines].join('\n')).toString('hex');
}

function framing(message: string): OutriderError {
  return refuse(message, 'chunk_line');
}

function trailing(message: string): OutriderError {
  return refuse(message, 'trailer_forbidden');
}

function unsigned(message: string): OutriderError {
  return refused('EGRESS_DENIED', message, 'sigv4_chunk_signature');
}

function refuse(message: string, reason: Reason): OutriderError {
  return refused('INVALID_REQUEST', message, reason);
}
