/**
 * A text without its case, also that of letters that other letters fold to: the Kelvin sign is a k, the long s an s. Of two keys for
 * which this is one, a parser that matches keys whatever their case takes one for the other.
 */
export function foldCase(text: string): string {
  return text.toLowerCase().toUpperCase();
}
