import { Transform } from 'node:stream';
import type { RedactionStream, Redactor } from './redaction.ts';

/**
 * How long the beginning of what may be a secret waits for its rest: on a connection that stays open it may be the end of a message that
 * the other side waits for an answer to.
 */
const HOLD_MS = 20;

/**
 * A redaction that holds nothing back for longer than 20 ms. Who makes the other side pause within a secret gets at most 7 bytes of it:
 * what waited is released as asterisks where it gives a secret away, and what comes behind it is still covered as its rest.
 */
export class PromptCover {
  readonly #redaction: RedactionStream;
  readonly #say: (held: Buffer) => void;
  #timer: NodeJS.Timeout | undefined;

  /** `say` takes what has been held back for long enough. */
  constructor(redaction: RedactionStream, say: (held: Buffer) => void) {
    this.#redaction = redaction;
    this.#say = say;
  }

  push(chunk: Buffer): Buffer {
    clearTimeout(this.#timer);
    const out = this.#redaction.push(chunk);
    this.#timer = setTimeout(() => {
      const held = this.#redaction.release();
      if (held.length > 0) this.#say(held);
    }, HOLD_MS);
    return out;
  }

  /** What is left; nothing is said afterwards. */
  end(): Buffer {
    clearTimeout(this.#timer);
    return Buffer.concat([this.#redaction.release(), this.#redaction.end()]);
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

/** Lists that nobody can change, and by which redactor nothing was found in them. */
const clean = new WeakMap<readonly string[], Redactor>();

/** Covers the names and values of an answer's head and trailers, and counts those that held a secret. */
export class FieldCover {
  /** How many names and values were covered. */
  found = 0;
  readonly #redactor: Redactor | undefined;

  /** Without a redactor everything stays as it is. */
  constructor(redactor: Redactor | undefined) {
    this.#redactor = redactor;
  }

  readonly cover = (text: string): string => {
    const covered = this.#redactor?.text(text) ?? text;
    if (covered !== text) this.found += 1;
    return covered;
  };

  /** Names and values, none of which has a line feed. Mostly there is nothing to cover in any, which one look at all of them says. */
  readonly coverAll = (texts: string[]): string[] => {
    const redactor = this.#redactor;
    if (!redactor || clean.get(texts) === redactor) return texts;
    const all = texts.join('\n');
    if (redactor.text(all) !== all) return texts.map(this.cover);
    if (Object.isFrozen(texts)) clean.set(texts, redactor);
    return texts;
  };
}
