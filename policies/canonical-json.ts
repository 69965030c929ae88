/**
 * JSON with one spelling for one value: keys sorted by UTF-16 code units, no white space, numbers and text as ECMAScript
 * writes them (RFC 8785). Properties that are undefined are left out.
 * @throws {TypeError} for what JSON cannot say: NaN, infinities, functions, big integers, lone surrogates
 */
export function canonicalJson(value: unknown): string {
  if (value === null || typeof value === 'boolean') return String(value);
  if (typeof value === 'string') return text(value);
  if (typeof value === 'number' && Number.isFinite(value)) return JSON.stringify(value);
  if (Array.isArray(value)) return `[${value.map(canonicalJson).join(',')}]`;
  if (typeof value === 'object') {
    const entries = Object.entries(value)
      .filter(([, item]) => item !== undefined)
      .toSorted(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0))
      .map(([key, item]) => `${text(key)}:${canonicalJson(item)}`);
    return `{${entries.join(',')}}`;
  }
  throw new TypeError(`JSON has no ${typeof value === 'number' ? String(value) : typeof value}`);
}

function text(value: string): string {
  if (/\p{Cs}/u.test(value)) throw new TypeError('JSON has no lone surrogates');
  return JSON.stringify(value);
}
