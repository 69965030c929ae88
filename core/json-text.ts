/**
 * The value of a JSON text, of which `JSON.stringify` makes the same numbers again: those that JavaScript would round stay as they are
 * written, in an object of their own. Slower than `JSON.parse`. @throws SyntaxError
 */
export function exactly(text: string): unknown {
  return JSON.parse(text, (_key, value: unknown, { source }) =>
    typeof value === 'number' && source !== undefined && String(value) !== source
      ? JSON.rawJSON(source)
      : value,
  );
}

/** What `JSON.stringify` writes as `text`, which is a JSON string or number. */
export function rawJson(text: string): object {
  return JSON.rawJSON(text);
}

/** Whether a value is a number that `exactly` kept as it is written. */
export function isRawNumber(value: unknown): boolean {
  return JSON.isRawJSON(value);
}

/** A JSON text in one line: outside of its strings, which hold none, a line end says nothing. */
export function inOneLine(text: string): string {
  return text.replaceAll(/[\r\n]+/g, '');
}

declare global {
  /** ECMAScript 2026, which TypeScript does not know yet; the command runs on a Node that does. */
  interface JSON {
    rawJSON(text: string): object;
    isRawJSON(value: unknown): boolean;
    parse(
      text: string,
      reviver: (key: string, value: unknown, context: { readonly source?: string }) => unknown,
    ): unknown;
  }
}
