import type { Random } from '../../support/random.ts';
import {
  BEHIND,
  BODIES,
  type Choices,
  ENCODINGS,
  ENDS,
  EXTENSIONS,
  INTERIMS,
  LENGTH_NAMES,
  METHODS,
  NAMES,
  REASONS,
  SPACES,
  STATUSES,
  VALUES,
  VERSIONS,
} from './vocabulary.ts';

/** What comes back on one connection, one character a byte. */
export interface Case {
  /** Of the request that it answers. */
  readonly method: string;
  readonly text: string;
  /** Where the bytes are cut into pieces, as a seed. */
  readonly cuts: number;
}

/** An answer, or nearly one; most differ in one or two places from one that everybody reads. */
export function randomCase(random: Random): Case {
  const oddity = random.pick([0, 0, 0.02, 0.1] as const);
  const odd = new Odd(random, oddity);
  const method = random.pick(METHODS);
  const interims = Array.from({ length: random.once(6) ? 1 + random.below(2) : 0 }, () =>
    odd.interim(),
  );
  const answer = odd.answer();
  const behind = random.once(6) ? random.pick(BEHIND) : '';
  let text = `${random.next() < oddity ? random.pick(ENDS) : ''}${interims.join('')}${answer}${behind}`;
  if (random.once(10)) text = text.slice(0, random.below(text.length + 1));
  return { method, text: text === '' ? 'H' : text, cuts: random.below(2 ** 31) };
}

/** Writes answers, every piece of them wrong as often as `oddity` says. */
class Odd {
  readonly #random: Random;
  readonly #oddity: number;

  constructor(random: Random, oddity: number) {
    this.#random = random;
    this.#oddity = oddity;
  }

  interim(): string {
    const status = this.#random.pick(
      INTERIMS.slice(0, this.#isOdd() ? 5 : 3) as unknown as Choices,
    );
    const framing = this.#isOdd() ? this.#framing().headers : '';
    return `${this.#pick(VERSIONS, 1)} ${status}${this.#end()}${this.#fields(2)}${framing}${this.#end()}`;
  }

  answer(): string {
    const { headers, body } = this.#framing();
    const [before, after] = [this.#fields(3), this.#fields(2)];
    const head = `${before}${headers}${after}${this.#filler()}${this.#end()}`;
    return `${this.#statusLine()}${head}${body}`;
  }

  #statusLine(): string {
    const space = this.#isOdd() ? this.#random.pick(['  ', '\t', '', '\x0b', '\xa0']) : ' ';
    const version = this.#pick(VERSIONS, 2);
    const status = this.#random.once(3) ? this.#pick(STATUSES, 8) : '200';
    return `${version}${space}${status}${this.#pick(REASONS, 9)}${this.#end()}`;
  }

  #fields(most: number): string {
    const count = this.#random.below(most + 1);
    return Array.from({ length: count }, () => this.#field()).join('');
  }

  #field(): string {
    return this.#line(this.#pick(NAMES, 12), this.#pick(VALUES, 15));
  }

  /** So many bytes that a head comes near to what is allowed, now and then. */
  #filler(): string {
    if (!this.#random.once(200)) return '';
    return `X-Long: ${'y'.repeat(this.#random.below(20_000))}\r\n`;
  }

  #framing(): { headers: string; body: string } {
    const content = this.#random.pick(BODIES);
    const plan = this.#random.weighted([
      ['length', 4],
      ['chunked', 5],
      ['close', 2],
      // Where smuggling begins: often, and with nothing else that is wrong.
      ['both', 1],
      ['twice', 1],
    ] as const);
    const length = (): string =>
      this.#line(this.#pick(LENGTH_NAMES, 3), this.#length(content.length));
    const encoding = (): string => this.#line('Transfer-Encoding', this.#pick(ENCODINGS, 3));
    const body = this.#random.once(2) ? content : this.#chunks(content);
    if (plan === 'length') return { headers: length(), body: content };
    if (plan === 'chunked') return { headers: encoding(), body: this.#chunks(content) };
    if (plan === 'close') return { headers: '', body: content };
    if (plan === 'both') {
      const headers = this.#random.once(2) ? length() + encoding() : encoding() + length();
      return { headers, body };
    }
    const one = this.#random.once(2) ? length : encoding;
    return { headers: one() + this.#fields(1) + one(), body };
  }

  #length(bytes: number): string {
    if (!this.#isOdd()) return this.#random.once(12) ? `000${bytes}` : String(bytes);
    return this.#random.pick([
      `+${bytes}`,
      `-${bytes}`,
      `${bytes} `,
      `${bytes}\t`,
      `\t${bytes}`,
      `${bytes},${bytes}`,
      `${bytes}, ${bytes}`,
      `0x${bytes.toString(16)}`,
      `${bytes}.0`,
      `${bytes}e0`,
      `${bytes}_0`,
      `1${bytes}`,
      String(Math.max(0, bytes - 1)),
      '9'.repeat(15),
      '1'.padEnd(21, '0'),
      '18446744073709551617',
      '',
      `${bytes}\x0b`,
      `${bytes}\0`,
      `"${bytes}"`,
      `${bytes}\r\n 0`,
    ]);
  }

  #chunks(content: string): string {
    let text = '';
    for (let rest = content; rest !== ''; ) {
      const size = 1 + this.#random.below(Math.min(rest.length, 40));
      text += `${this.#chunkLine(size)}${rest.slice(0, size)}${this.#end()}`;
      rest = rest.slice(size);
    }
    const trailers = this.#random.once(3) ? this.#fields(2) : '';
    const framing = this.#isOdd() ? this.#line('Content-Length', '3') : '';
    return `${text}${this.#chunkLine(0)}${trailers}${framing}${this.#end()}`;
  }

  #chunkLine(bytes: number): string {
    const hex = bytes.toString(16);
    const size = this.#isOdd()
      ? this.#random.pick([
          `0x${hex}`,
          `+${hex}`,
          `-${hex}`,
          ` ${hex}`,
          `${hex} `,
          `${hex}_0`,
          `${hex}g`,
          `${hex}.`,
          hex.padStart(9, '0'),
          `1${hex.padStart(8, '0')}`,
          `1${hex.padStart(16, '0')}`,
          'ffffffff',
          '',
        ])
      : this.#random.pick([hex, hex, hex.toUpperCase(), hex.padStart(8, '0')]);
    const extension = this.#random.once(5) ? this.#pick(EXTENSIONS, 5) : '';
    return `${size}${extension}${this.#end()}`;
  }

  #line(name: string, value: string): string {
    return `${name}${this.#pick(SPACES, 4)}${value}${this.#end()}`;
  }

  #end(): string {
    if (!this.#isOdd()) return '\r\n';
    return this.#random.once(2) ? '\n' : this.#random.pick(ENDS);
  }

  #isOdd(): boolean {
    return this.#random.next() < this.#oddity;
  }

  /** One of the first `right` of these, which are right, and of all of them where it is to be odd. */
  #pick(choices: Choices, right: number): string {
    const bound = this.#isOdd() ? choices.length : right;
    return choices[this.#random.below(bound)] ?? choices[0];
  }
}
