import { Character, literal, type Pattern, spelled } from './redaction-pattern.ts';

/** Encoded forms of fewer bytes than this would cover innocent text. */
const ENCODED_MIN_BYTES = 6;

/**
 * How a text can contain a secret: as it is, and in the encodings that servers echo things in. Which characters are escaped, and in which
 * case, is the choice of a server: any of those that are no letters and digits, or all.
 */
export function spellings(secret: string): Pattern[] {
  const bytes = Buffer.from(secret, 'utf8');
  const base64 = [0, 1, 2].flatMap((offset) => base64At(bytes, offset));
  const texts = [secret, ...base64.filter((text) => text.length >= ENCODED_MIN_BYTES)];
  const chars = Array.from(secret);
  const written = [
    Array.from(bytes.toString('hex'), hexDigit),
    chars.map(anyWay),
    ...escaped.map((way) => chars.map(way)),
  ];
  return [
    ...[...new Set(texts)].map((text) => literal(Buffer.from(text))),
    ...written.map((characters) => spelled(characters, ENCODED_MIN_BYTES)),
  ];
}

/** The characters of a base64 text that depend on the secret alone, when it begins at a byte `offset` modulo 3. */
function base64At(bytes: Buffer, offset: number): string[] {
  const padded = Buffer.concat([Buffer.alloc(offset), bytes]);
  const from = [0, 2, 3][offset] ?? 0;
  const to = Math.floor((padded.length * 8) / 6);
  return [padded.toString('base64').slice(from, to), padded.toString('base64url').slice(from, to)];
}

const inUrl = (char: string): string => Buffer.from(char).toString('hex').replace(/../g, '%$&');
const inJson = (char: string): string =>
  [...Buffer.from(char, 'utf16le').swap16().toString('hex').matchAll(/..../g)]
    .map(([digits]) => `\\u${digits}`)
    .join('');
const inDecimal = (char: string): string => `&#${char.codePointAt(0)};`;
const inHex = (char: string): string => `&#x${char.codePointAt(0)?.toString(16)};`;
/** Each can stand for any character. */
const ESCAPES = [inUrl, inJson, inDecimal, inHex];

/** What else stands for one, in forms, JSON (RFC 8259, 7) and HTML, where PHP writes three digits. */
const SHORT: ReadonlyMap<string, string> = new Map([
  [' ', '+'],
  ['"', '\\"'],
  ['\\', '\\\\'],
  ['/', '\\/'],
]);
const NAMED: ReadonlyMap<string, string> = new Map([
  ['&', '&amp;'],
  ['<', '&lt;'],
  ['>', '&gt;'],
  ['"', '&quot;'],
  ["'", '&apos;'],
]);
const inThreeDigits = (char: string): string =>
  inDecimal(char).replace(/\d+/, (digits) => digits.padStart(3, '0'));

/** Made once for each character; secrets have few: visible ASCII. */
function kept(make: (char: string) => Character): (char: string) => Character {
  const made = new Map<string, Character>();
  return (char) => {
    const character = made.get(char) ?? make(char);
    made.set(char, character);
    return character;
  };
}

const hexDigit = kept((digit) => new Character().add(digit, true));
const escaped = ESCAPES.map((escape) => kept((char) => new Character().add(escape(char), true)));
const anyWay = kept((char) => {
  const character = new Character().add(char);
  if (/[0-9A-Za-z]/.test(char)) return character;
  for (const escape of [...ESCAPES, inThreeDigits]) character.add(escape(char), true);
  for (const text of [SHORT.get(char), NAMED.get(char)])
    if (text !== undefined) character.add(text, true);
  return character;
});
