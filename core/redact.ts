/** Keys whose values are never shown, wherever they stand. */
const SECRET_KEY = /(?:token|password|secret|authorization|cookie|api[-_]?key|bearer|credential)/i;

/** Of a URL that is signed for whoever has it: S3's, GCS's, SAS's. */
const SIGNATURE = /(?:^|[-_])sig(?:nature)?$/i;

/** What every text of the shape holds, so that others are passed over quickly; the shape; what stands in its place. */
type SecretShape = readonly [
  holds: string | RegExp,
  shape: RegExp,
  put: (found: string, word: string) => string,
];

/**
 * Values that are secrets by their shape: a JWT, a bearer header, credentials inside a URL. The text may be JSON, where a line
 * feed before a token is the two characters `\\n`. Sandboxes choose parts of it: no shape may look at a character many times.
 */
const SECRET_VALUES: readonly SecretShape[] = [
  [
    'eyJ',
    /(?:\b|(?<=\\[bfnrt]))eyJ[\w-]*(?:\.[\w-]+\.[\w-]*)?/g,
    (found) => (found.includes('.') ? '[REDACTED]' : found),
  ],
  [
    /bearer|basic/i,
    /(?:\b|(?<=\\[bfnrt]))(bearer|basic)(?:\s|\\[nrt])+[\w.~+/=-]+/gi,
    (_, word) => `${word} [REDACTED]`,
  ],
  ['@', /:\/\/[^\s/@"']+@/g, () => '://[REDACTED]@'],
];

const DEPTH_MAX = 8;

/** `text` without what looks like a secret. Keeps everything else, byte for byte. */
export function redactText(text: string): string {
  return SECRET_VALUES.reduce(
    (clean, [holds, shape, put]) => (hasPart(clean, holds) ? clean.replace(shape, put) : clean),
    text,
  );
}

/**
 * A query or form without the values of secret names, and without values that look like a secret, both judged as they are decoded. What is
 * no pair, a statement for example, is kept; so is everything else, byte for byte.
 */
export function redactForm(text: string): string {
  if (!/[%+]|sig/i.test(text) && !SECRET_KEY.test(text)) return text;
  return text.replace(/(?<=^|&)([^&=\s]+)=([^&\s]*)/g, (pair, name: string, value: string) => {
    const [key, plain] = [formDecoded(name), formDecoded(value)];
    const isSecret = SECRET_KEY.test(key) || SIGNATURE.test(key) || redactText(plain) !== plain;
    return isSecret ? `${name}=[REDACTED]` : pair;
  });
}

/** Never fails, as `decodeURIComponent` does: what is broken in one place must not hide what stands in another. */
function formDecoded(text: string): string {
  return text
    .replaceAll('+', ' ')
    .replace(/%([0-9a-f]{2})/gi, (_, hex: string) => String.fromCharCode(parseInt(hex, 16)));
}

function hasPart(text: string, part: string | RegExp): boolean {
  return typeof part === 'string' ? text.includes(part) : part.test(text);
}

/** A copy of any JSON-like value without the values of secret keys and without secret-looking text; deeper than 8 levels is cut. */
export function redact(value: unknown, depth = 0): unknown {
  if (typeof value === 'string') return redactText(value);
  if (typeof value !== 'object' || value === null) return value;
  if (depth > DEPTH_MAX) return '[TRUNCATED_DEPTH]';
  if (Array.isArray(value)) return value.map((item) => redact(item, depth + 1));
  return Object.fromEntries(
    Object.entries(value).map(([key, item]) => [
      key,
      SECRET_KEY.test(key) ? '[REDACTED]' : redact(item, depth + 1),
    ]),
  );
}
