/** Programs send few different names, and some send any. */
const KNOWN_MAX = 1_024;

/** The same test of a field's name, which remembers what it said of the names that come most. */
export function knownNames(test: (name: string) => boolean): (name: string) => boolean {
  const known = new Map<string, boolean>();
  return (name) => {
    const told = known.get(name);
    if (told !== undefined) return told;
    const says = test(name);
    if (known.size >= KNOWN_MAX) known.clear();
    known.set(name, says);
    return says;
  };
}

/**
 * A field's name, in lower case, as servers know it that get their fields by CGI or WSGI: those do not tell `_` from `-` (RFC 3875, 4.1.18),
 * PHP not `.` either, and some no separator from any other.
 */
export function hyphened(name: string): string {
  return name.replaceAll(/[^0-9a-z]/g, '-');
}
