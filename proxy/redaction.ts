/** Finds the spellings of injected secrets in an upstream's answer. Bounded: it holds back less than its longest pattern. */
export interface Redactor {
  /** The text with every spelling of a secret replaced by asterisks of the same length. */
  text(value: string): string;
  /** A stream of its own, for one body. */
  stream(): RedactionStream;
}

/** Feed chunks, send what comes back, and what `end` gives at last. Lengths are kept, so framing and offsets stay true. */
export interface RedactionStream {
  push(chunk: Buffer): Buffer;
  end(): Buffer;
  /** How many occurrences were covered. */
  readonly found: number;
}

/** Encoded forms of fewer bytes than this would cover innocent text. */
const ENCODED_MIN_BYTES = 6;
const MASK = '*'.charCodeAt(0);

/**
 * Looks for each secret raw, in base64 (both alphabets, at the three offsets it can have inside a longer text), in hex (both
 * cases), URL-encoded (both cases, `+` for a space) and as a JSON string. A compressed or otherwise transformed secret is not
 * found: with a credential the upstream is asked for `identity`, and an encoded answer is refused.
 */
export function createRedactor(secrets: readonly string[]): Redactor {
  const patterns = [...new Set(secrets.flatMap(spellings))].map((text) => Buffer.from(text));
  return {
    text(value) {
      const bytes = Buffer.from(value, 'latin1');
      return mask(bytes, occurrences(bytes, patterns)).toString('latin1');
    },
    stream: () => new Stream(patterns),
  };
}

class Stream implements RedactionStream {
  found = 0;
  readonly #patterns: readonly Buffer[];
  /** The original bytes of a tail that may be the beginning of a secret. */
  #held: Buffer = Buffer.alloc(0);
  /** How many of the held bytes belong to a secret that began before them. */
  #covered = 0;

  constructor(patterns: readonly Buffer[]) {
    this.#patterns = patterns;
  }

  push(chunk: Buffer): Buffer {
    const bytes = this.#held.length === 0 ? chunk : Buffer.concat([this.#held, chunk]);
    const ranges = occurrences(bytes, this.#patterns);
    const holdFrom = tailStart(bytes, this.#patterns);
    const covered: Range = [0, this.#covered];
    const sent = ranges.filter(([from]) => from < holdFrom);
    this.found += sent.length;
    const out = mask(bytes, [covered, ...sent]).subarray(0, holdFrom);
    const end = [covered, ...sent].reduce((most, [, to]) => Math.max(most, to), 0);
    this.#covered = Math.max(0, end - holdFrom);
    this.#held = bytes.subarray(holdFrom);
    return out;
  }

  end(): Buffer {
    const ranges = occurrences(this.#held, this.#patterns);
    this.found += ranges.length;
    const out = mask(this.#held, [[0, this.#covered], ...ranges]);
    this.#held = Buffer.alloc(0);
    this.#covered = 0;
    return out;
  }
}

type Range = readonly [from: number, to: number];

function occurrences(bytes: Buffer, patterns: readonly Buffer[]): Range[] {
  const ranges: Range[] = [];
  for (const pattern of patterns)
    for (let at = bytes.indexOf(pattern); at >= 0; at = bytes.indexOf(pattern, at + 1))
      ranges.push([at, at + pattern.length]);
  return ranges;
}

/** A copy with the ranges covered, or `bytes` itself where there is nothing to cover. */
function mask(bytes: Buffer, ranges: readonly Range[]): Buffer {
  if (ranges.every(([from, to]) => from === to)) return bytes;
  const copy = Buffer.from(bytes);
  for (const [from, to] of ranges) copy.fill(MASK, from, Math.min(to, copy.length));
  return copy;
}

/** Where the longest tail begins that is a beginning, but not the whole, of a pattern; the length where there is none. */
function tailStart(bytes: Buffer, patterns: readonly Buffer[]): number {
  let start = bytes.length;
  for (const pattern of patterns) {
    const first = pattern[0] ?? 0;
    const from = Math.max(0, bytes.length - pattern.length + 1);
    for (
      let at = bytes.indexOf(first, from);
      at >= 0 && at < start;
      at = bytes.indexOf(first, at + 1)
    )
      if (bytes.compare(pattern, 0, bytes.length - at, at) === 0) start = at;
  }
  return start;
}

function spellings(secret: string): string[] {
  const bytes = Buffer.from(secret, 'utf8');
  const encoded = [
    ...[0, 1, 2].flatMap((offset) => base64At(bytes, offset)),
    bytes.toString('hex'),
    bytes.toString('hex').toUpperCase(),
    ...urlEncoded(secret),
    JSON.stringify(secret).slice(1, -1),
    JSON.stringify(secret).slice(1, -1).replaceAll('/', '\\/'),
  ];
  return [secret, ...encoded.filter((text) => text.length >= ENCODED_MIN_BYTES)];
}

/** The characters of a base64 text that depend on the secret alone, when it begins at a byte `offset` modulo 3. */
function base64At(bytes: Buffer, offset: number): string[] {
  const padded = Buffer.concat([Buffer.alloc(offset), bytes]);
  const from = [0, 2, 3][offset] ?? 0;
  const to = Math.floor((padded.length * 8) / 6);
  return [padded.toString('base64').slice(from, to), padded.toString('base64url').slice(from, to)];
}

function urlEncoded(secret: string): string[] {
  const strict = encodeURIComponent(secret).replace(
    /[!'()*~]/g,
    (char) => `%${char.charCodeAt(0).toString(16).toUpperCase()}`,
  );
  const forms = [encodeURIComponent(secret), strict, strict.replaceAll('%20', '+')];
  return forms.flatMap((form) => [
    form,
    form.replace(/%[0-9A-F]{2}/g, (escape) => escape.toLowerCase()),
  ]);
}
