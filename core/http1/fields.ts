/** RFC 9110 5.6.2. */
export const TOKEN = "[!#$%&'*+.^_`|~\\w-]+";
/** Horizontal tab, space, visible characters, obs-text (RFC 9110 5.5). */
export const TEXT = '[\\t\\x20-\\x7e\\x80-\\xff]*';
/** Lines of a head, each with its line end; no folding. */
export const FIELDS = `(?:${TOKEN}:${TEXT}\\r\\n)*`;

const SPACE = ' '.charCodeAt(0);
const TAB = '\t'.charCodeAt(0);

/**
 * Names and values of the lines from `from` on, which FIELDS matches; values without the space around them. `onTrailingSpace` is told each name
 * whose value has space behind it.
 */
export function fieldsOf(
  text: string,
  from: number,
  onTrailingSpace: (name: string) => void,
): string[] {
  const fields: string[] = [];
  for (let at = from; at < text.length; ) {
    const colon = text.indexOf(':', at);
    const next = text.indexOf('\r\n', colon);
    let begin = colon + 1;
    let end = next;
    while (begin < end && isBlank(text.charCodeAt(begin))) begin += 1;
    while (end > begin && isBlank(text.charCodeAt(end - 1))) end -= 1;
    const name = text.slice(at, colon);
    if (end < next) onTrailingSpace(name);
    fields.push(name, text.slice(begin, end));
    at = next + 2;
  }
  return fields;
}

export function isNamed(text: string, lower: string): boolean {
  return text === lower || text.toLowerCase() === lower;
}

function isBlank(code: number): boolean {
  return code === SPACE || code === TAB;
}
