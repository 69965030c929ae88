import { Transform } from 'node:stream';
import type { RedactionStream } from './redaction.ts';

/**
 * How long the beginning of what may be a secret waits for its rest: on a connection that stays open it may be the end of a message that
 * the other side waits for an answer to.
 */
const HOLD_MS = 20;

/** A redaction that holds nothing back for longer than 20 ms. */
export class PromptCover {
  readonly #redaction: RedactionStream;
  readonly #say: (held: Buffer) => void;
  #timer: NodeJS.Timeout | undefined;

  /** `say` takes what was held back and is not a secret after all. */
  constructor(redaction: RedactionStream, say: (held: Buffer) => void) {
    this.#redaction = redaction;
    this.#say = say;
  }

  push(chunk: Buffer): Buffer {
    clearTimeout(this.#timer);
    const out = this.#redaction.push(chunk);
    this.#timer = setTimeout(() => {
      const held = this.#redaction.end();
      if (held.length > 0) this.#say(held);
    }, HOLD_MS);
    return out;
  }

  /** What is left; nothing is said afterwards. */
  end(): Buffer {
    clearTimeout(this.#timer);
    return this.#redaction.end();
  }
}

/** The same as a stream. */
export function covering(redaction: RedactionStream): Transform {
  const cover = new PromptCover(redaction, (held) => void stream.push(held));
  const stream = new Transform({
    transform: (chunk: Buffer, _encoding, done) => done(null, cover.push(chunk)),
    flush: (done) => done(null, cover.end()),
    destroy(error, done) {
      cover.end();
      done(error);
    },
  });
  return stream;
}
