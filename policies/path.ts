import type { Reason } from './reason.ts';

/** A path in its one canonical spelling, but for delimiters inside a segment, which programs write plainly or encoded. */
export interface Path {
  /** With its leading slash: what goes on the wire. */
  readonly text: string;
  /**
   * What is matched: what stands between the slashes, with those delimiters written plainly. A trailing slash gives a last segment that is
   * empty; `/` alone has one empty segment.
   */
  readonly segments: readonly string[];
}

/** Bytes of a path, and of a query. No upstream that we know takes more. */
const PATH_MAX = 8192;
export const QUERY_MAX = 16_384;

/** RFC 3986 pchar without `;`, which some servers take for a parameter and others for a letter. */
const SEGMENT = /^(?:[A-Za-z0-9\-._~!$&'()*+,=:@]|%[0-9A-F]{2})*$/;
const ENCODED = /(?:%[0-9A-F]{2})+/g;
/** RFC 3986 sub-delims without `;`, and `:` and `@`: servers take `%3D` in a segment for `=`, and SDKs of S3 write it. */
const ENCODED_DELIMITER = /%(?:2[14-9A-C]|3[AD]|40)/g;

/**
 * Reads a path that is canonical already, and refuses any other: dot segments, plain or encoded, `//`, `;`, a backslash,
 * encoded slashes, percents, semicolons and control characters, letters that need no encoding but have one, lower-case
 * hexadecimal, and bytes that are not UTF-8. Nothing is repaired.
 */
export function parsePath(text: string): Path | Reason {
  if (text.length > PATH_MAX || !text.startsWith('/')) return 'path_malformed';
  const segments = text.slice(1).split('/');
  let encoded = false;
  const last = segments.length - 1;
  for (const [i, segment] of segments.entries()) {
    if (segment === '' && i !== last) return 'path_malformed';
    if (segment === '.' || segment === '..' || !SEGMENT.test(segment)) return 'path_malformed';
    if (!segment.includes('%')) continue;
    if (!encodingsAreCanonical(segment)) return 'path_malformed';
    encoded = true;
  }
  return { text, segments: encoded ? segments.map(plainDelimiters) : segments };
}

/** The text of what follows the first `count` segments. */
export function textBehind({ text }: Path, count: number): string {
  return `/${text.slice(1).split('/').slice(count).join('/')}`;
}

function plainDelimiters(segment: string): string {
  return segment.replace(ENCODED_DELIMITER, decodeURIComponent);
}

/** Why a query is refused, if it is: it must be visible ASCII. Its parameters are taken apart only where a rule asks for them. */
export function queryRefusal(text: string): Reason | undefined {
  return text.length > QUERY_MAX || !/^[\x21-\x7e]*$/.test(text) ? 'query_malformed' : undefined;
}

/**
 * The parameters of a query as a form writes them, names and values decoded, in order.
 * Undefined where two readers might disagree: a broken or overlong encoding, a semicolon, control characters.
 */
export function queryParameters(query: string): readonly (readonly [string, string])[] | undefined {
  return parametersOf(query, /\p{Cc}/u);
}

/** The same of a form, whose values may have several lines. */
export function formParameters(form: string): readonly (readonly [string, string])[] | undefined {
  return parametersOf(form, /(?![\t\r\n])\p{Cc}/u);
}

function parametersOf(
  query: string,
  forbidden: RegExp,
): readonly (readonly [string, string])[] | undefined {
  if (query.includes(';')) return undefined;
  const parameters: [string, string][] = [];
  for (const part of query.split('&')) {
    if (part === '') continue;
    const equals = part.indexOf('=');
    const name = decodeForm(equals === -1 ? part : part.slice(0, equals), forbidden);
    const value = decodeForm(equals === -1 ? '' : part.slice(equals + 1), forbidden);
    if (name === undefined || value === undefined) return undefined;
    parameters.push([name, value]);
  }
  return parameters;
}

/** Decoded runs must be UTF-8 and hold only what could not stand there plainly, and nothing that a second decoding would turn into structure. */
function encodingsAreCanonical(segment: string): boolean {
  for (const [run] of segment.matchAll(ENCODED)) {
    const decoded = decode(run);
    if (decoded === undefined || /[A-Za-z0-9\-._~/\\%;\p{Cc}]/u.test(decoded)) return false;
  }
  return true;
}

function decodeForm(text: string, forbidden: RegExp): string | undefined {
  const decoded = decode(text.replaceAll('+', ' '));
  return decoded === undefined || forbidden.test(decoded) ? undefined : decoded;
}

/** `decodeURIComponent` refuses broken, overlong and surrogate encodings by throwing. */
function decode(text: string): string | undefined {
  try {
    return decodeURIComponent(text);
  } catch {
    return undefined;
  }
}
