import { createMatcher, type Matcher, type Range } from './redaction-matcher.ts';
import { spellings } from './redaction-spellings.ts';

/** Finds the spellings of injected secrets in an upstream's answer. Bounded: it holds back less than its longest pattern. */
export interface Redactor {
  /** The text with every spelling of a secret replaced by asterisks of the same length; the same text where there is none. */
  text(value: string): string;
  /** A stream of its own, for one body. */
  stream(): RedactionStream;
}

/** Feed chunks, send what comes back, and what `end` gives at last. Lengths are kept, so framing and offsets stay true. */
export interface RedactionStream {
  push(chunk: Buffer): Buffer;
  /**
   * What is held back, which cannot wait: covered where so much of a secret's beginning stands that it gives the secret away (8 bytes, or
   * the half of a shorter spelling). It stays known as a beginning: what completes it is covered, too.
   */
  release(): Buffer;
  end(): Buffer;
  /** How many places were covered, beginnings among them: what several spellings find overlapping is one. */
  readonly found: number;
}

const MASK = '*'.charCodeAt(0);
/** Making a redactor costs as much as searching some MiB; of the last ones used, so many are kept. */
const KEPT_MAX = 128;
const kept = new Map<string, { readonly redactor: Redactor; usedAt: number }>();
let uses = 0;

/**
 * Looks for each secret raw, in base64 (both alphabets, at the three offsets it can have inside a longer text), in hex,
 * URL-encoded, as a JSON string and as HTML text, with whatever is escaped that may be (`spellings` says what). A compressed or otherwise transformed secret is
 * not found: with a credential the upstream is asked for `identity`, and an encoded answer is refused.
 */
export function createRedactor(secrets: readonly string[]): Redactor {
  // A line feed is in no header, and so in no secret.
  const key = secrets.join('\n');
  uses += 1;
  const known = kept.get(key);
  if (known) {
    known.usedAt = uses;
    return known.redactor;
  }
  const redactor = make(secrets);
  kept.set(key, { redactor, usedAt: uses });
  if (kept.size > KEPT_MAX) forgetOldest();
  return redactor;
}

function forgetOldest(): void {
  const [oldest] = [...kept].toSorted(([, a], [, b]) => a.usedAt - b.usedAt);
  if (oldest) kept.delete(oldest[0]);
}

function make(secrets: readonly string[]): Redactor {
  const matcher = createMatcher(secrets.flatMap(spellings));
  return {
    text(value) {
      const bytes = Buffer.from(value, 'latin1');
      const ranges = matcher.occurrences(bytes);
      return ranges.length === 0 ? value : mask(bytes, ranges).toString('latin1');
    },
    stream: () => new Stream(matcher),
  };
}

class Stream implements RedactionStream {
  found = 0;
  readonly #matcher: Matcher;
  /** The original bytes of a tail that may be the beginning of a secret. */
  #held: Buffer = Buffer.alloc(0);
  /** How many of the held bytes belong to a secret that began before them. */
  #covered = 0;
  /** How many of the held bytes have been released. */
  #released = 0;
  /** Where among the held bytes a beginning stands that was covered, and counted; negative where there is none. */
  #begun = -1;

  constructor(matcher: Matcher) {
    this.#matcher = matcher;
  }

  push(chunk: Buffer): Buffer {
    const bytes = this.#held.length === 0 ? chunk : Buffer.concat([this.#held, chunk]);
    const ranges = this.#matcher.occurrences(bytes);
    const holdFrom = this.#matcher.tailStart(bytes);
    const covered: Range = [0, this.#covered];
    const sent = ranges.filter(([from]) => from < holdFrom);
    this.#count(sent);
    const out = mask(bytes, [covered, ...sent]).subarray(
      this.#released,
      Math.max(this.#released, holdFrom),
    );
    const end = [covered, ...sent].reduce((most, [, to]) => Math.max(most, to), 0);
    this.#covered = Math.max(0, end - holdFrom);
    this.#released = Math.max(0, this.#released - holdFrom);
    this.#begun -= holdFrom;
    this.#held = bytes.subarray(holdFrom);
    return out;
  }

  release(): Buffer {
    const { length } = this.#held;
    if (this.#released === length) return this.#held.subarray(length);
    const ranges: Range[] = this.#matcher.occurrences(this.#held);
    const from = this.#matcher.tellingStart(this.#held);
    if (from < length && from !== this.#begun) {
      this.found += 1;
      this.#begun = from;
    }
    const out = mask(this.#held, [[0, this.#covered], ...ranges, [from, length]]).subarray(
      this.#released,
    );
    this.#released = length;
    return out;
  }

  end(): Buffer {
    const ranges = this.#matcher.occurrences(this.#held);
    this.#count(ranges);
    const out = mask(this.#held, [[0, this.#covered], ...ranges]).subarray(this.#released);
    this.#held = Buffer.alloc(0);
    this.#covered = 0;
    this.#released = 0;
    this.#begun = -1;
    return out;
  }

  /** Each once: a beginning that was covered may be that of one of these, and the rest of a place may be in what was sent. */
  #count(ranges: readonly Range[]): void {
    let end = this.#covered;
    for (const [from, to] of ranges.toSorted(([a], [b]) => a - b)) {
      if (from >= end && from !== this.#begun) this.found += 1;
      end = Math.max(end, to);
    }
  }
}

/** A copy with the ranges covered, or `bytes` itself where there is nothing to cover. */
function mask(bytes: Buffer, ranges: readonly Range[]): Buffer {
  if (ranges.every(([from, to]) => from === to)) return bytes;
  const copy = Buffer.from(bytes);
  for (const [from, to] of ranges) copy.fill(MASK, from, Math.min(to, copy.length));
  return copy;
}
