/**
 * Text for a terminal, a log or a comment. What an audit or a policy holds may come from whoever wrote a program, and must neither end
 * the line that it stands in nor move a cursor.
 */
export function printable(text: string): string {
  return text.replace(
    /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Cs}]/gu,
    (char) => `\\u{${(char.codePointAt(0) ?? 0).toString(16)}}`,
  );
}
