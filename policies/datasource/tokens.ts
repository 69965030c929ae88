/** A piece of a query. Strings keep what stands between their quotes, as it is written. */
export interface Token {
  readonly kind: 'word' | 'number' | 'string' | 'quoted' | 'sign';
  readonly text: string;
}

/** What a language's words and signs look like; every pattern is sticky. */
export interface Lexicon {
  /** In the order in which they are tried. */
  readonly patterns: readonly (readonly [kind: Token['kind'] | 'space', pattern: RegExp])[];
}

/** A query of more pieces is not read. */
const TOKENS_MAX = 20_000;

/**
 * Takes a query apart; undefined where some of it is nothing that the lexicon knows. A string's text is the first group of its
 * pattern that took part.
 */
export function tokensOf(text: string, { patterns }: Lexicon): Token[] | undefined {
  const tokens: Token[] = [];
  let at = 0;
  while (at < text.length) {
    const found = firstMatch(text, at, patterns);
    if (!found || tokens.length === TOKENS_MAX) return undefined;
    at = found.end;
    if (found.kind !== 'space') tokens.push({ kind: found.kind, text: found.text });
  }
  return tokens;
}

function firstMatch(
  text: string,
  at: number,
  patterns: Lexicon['patterns'],
): { kind: Token['kind'] | 'space'; text: string; end: number } | undefined {
  for (const [kind, pattern] of patterns) {
    pattern.lastIndex = at;
    const match = pattern.exec(text);
    if (!match || match[0] === '') continue;
    const inner = match.slice(1).find((group) => group !== undefined);
    return { kind, text: inner ?? match[0], end: pattern.lastIndex };
  }
  return undefined;
}

/** Reads tokens one after the other. Whatever is not as expected throws `NotUnderstood`, which the reader's caller catches. */
export class Reader {
  readonly #tokens: readonly Token[];
  #at = 0;
  #depth = 0;

  constructor(tokens: readonly Token[]) {
    this.#tokens = tokens;
  }

  get done(): boolean {
    return this.#at >= this.#tokens.length;
  }

  peek(ahead = 0): Token | undefined {
    return this.#tokens[this.#at + ahead];
  }

  next(): Token {
    const token = this.#tokens[this.#at];
    if (!token) throw new NotUnderstood();
    this.#at += 1;
    return token;
  }

  /** Whether the next token is this sign, which is taken then. */
  take(sign: string): boolean {
    const token = this.peek();
    if (token?.kind !== 'sign' || token.text !== sign) return false;
    this.#at += 1;
    return true;
  }

  /** The same of words, in any case. */
  takeWord(...words: readonly string[]): string | undefined {
    const word = this.peekWord();
    if (word === undefined || !words.includes(word)) return undefined;
    this.#at += 1;
    return word;
  }

  /** The next token in lower case where it is a word. */
  peekWord(ahead = 0): string | undefined {
    const token = this.peek(ahead);
    return token?.kind === 'word' ? token.text.toLowerCase() : undefined;
  }

  isSign(sign: string, ahead = 0): boolean {
    const token = this.peek(ahead);
    return token?.kind === 'sign' && token.text === sign;
  }

  expect(sign: string): void {
    if (!this.take(sign)) throw new NotUnderstood();
  }

  expectKind(kind: Token['kind']): string {
    const token = this.next();
    if (token.kind !== kind) throw new NotUnderstood();
    return token.text;
  }

  /** For what nests: a query that nests deeper than anybody writes is not read. */
  nested<T>(read: () => T): T {
    this.#depth += 1;
    if (this.#depth > NESTING_MAX) throw new NotUnderstood();
    const result = read();
    this.#depth -= 1;
    return result;
  }
}

const NESTING_MAX = 64;

/** A query that is not of the subset that is read. It is refused: what it might do is not known. */
export class NotUnderstood extends Error {
  override readonly name = 'NotUnderstood';
}
