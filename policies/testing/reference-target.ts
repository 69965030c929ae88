import { BlockList, isIPv4, isIPv6 } from 'node:net';

/**
 * What a request's text means, again: letter by letter and byte by byte, with Node's own readers of addresses and its URL, and
 * no code of the engine. Undefined where the text has no single meaning.
 */
export type ReferenceTarget =
  | { readonly kind: 'tunnel'; readonly host: string; readonly port: number }
  | {
      readonly kind: 'host';
      readonly scheme: string;
      readonly host: string;
      readonly port: number;
      readonly request: string;
    }
  | { readonly kind: 'datasource'; readonly ref: string; readonly request: string };

const UNRESERVED = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~';
const PCHAR = new Set(`${UNRESERVED}!$&'()*+,=:@`);
const METHODS = ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS'];
const TYPES = ['clickhouse', 'prometheus', 'loki', 's3', 'http'];
const DOMAIN = 'outrider.internal';

export function referenceTarget(text: string): ReferenceTarget | undefined {
  const words = text.split(' ');
  if (words.length < 2 || words.length > 3) return undefined;
  const [method = '', where = '', protocol = 'http1'] = words;
  if (method === 'CONNECT') return words.length === 2 ? tunnel(where) : undefined;
  if (!['http1', 'http2', 'grpc', 'websocket'].includes(protocol)) return undefined;
  if (!METHODS.includes(method)) return undefined;
  if (protocol === 'grpc' && method !== 'POST') return undefined;
  if (protocol === 'websocket' && method !== 'GET') return undefined;
  const rest = (path: string) => `${protocol} ${method} ${path}`;
  if (where.startsWith('/')) {
    const path = canonicalPath(where);
    return path === undefined ? undefined : alias(path, rest);
  }
  return absolute(where, rest);
}

function tunnel(where: string): ReferenceTarget | undefined {
  for (const letter of '/?#') if (where.includes(letter)) return undefined;
  const authority = authorityOf(where);
  if (!authority || authority.port === undefined || isAlias(authority.host)) return undefined;
  return { kind: 'tunnel', host: authority.host, port: authority.port };
}

function absolute(where: string, rest: (path: string) => string): ReferenceTarget | undefined {
  const lower = where.toLowerCase();
  const scheme = lower.startsWith('http://') ? 'http' : lower.startsWith('https://') ? 'https' : '';
  if (scheme === '') return undefined;
  const behind = where.slice(scheme.length + 3);
  let end = 0;
  while (end < behind.length && !'/?#'.includes(behind[end] ?? '')) end += 1;
  const path = canonicalPath(behind.slice(end) === '' ? '/' : behind.slice(end));
  const authority = authorityOf(behind.slice(0, end));
  if (!authority || path === undefined) return undefined;
  const { host } = authority;
  const port = authority.port ?? (scheme === 'http' ? 80 : 443);
  if (!isAlias(host)) return { kind: 'host', scheme, host, port, request: rest(path) };
  if (port !== 80 || host === DOMAIN) return undefined;
  const label = host.slice(0, host.length - DOMAIN.length - 1);
  const type = TYPES.find((each) => label.startsWith(`${each}-`));
  if (type === undefined || !isName(label.slice(type.length + 1))) return undefined;
  return {
    kind: 'datasource',
    ref: `${type}/${label.slice(type.length + 1)}`,
    request: rest(path),
  };
}

function alias(path: string, rest: (path: string) => string): ReferenceTarget | undefined {
  const mark = path.indexOf('?');
  const [before, query] = mark < 0 ? [path, ''] : [path.slice(0, mark), path.slice(mark)];
  const [, type = '', name = '', ...behind] = before.split('/');
  if (!TYPES.includes(type) || !isName(name)) return undefined;
  return {
    kind: 'datasource',
    ref: `${type}/${name}`,
    request: rest(`/${behind.join('/')}${query}`),
  };
}

function isAlias(host: string): boolean {
  return `.${host}`.endsWith(`.${DOMAIN}`);
}

function isName(text: string): boolean {
  return (
    text.length > 0 &&
    text.length <= 63 &&
    consistsOf(text.slice(0, 1), SMALL) &&
    consistsOf(text, `${SMALL}0123456789-`)
  );
}

const SMALL = 'abcdefghijklmnopqrstuvwxyz';

function consistsOf(text: string, letters: string): boolean {
  return text.split('').every((letter) => letters.includes(letter));
}

function authorityOf(text: string): { host: string; port: number | undefined } | undefined {
  let [host, port]: [string, string | undefined] = [text, undefined];
  const from = text.startsWith('[') ? text.lastIndexOf(']') + 1 : 0;
  const colon = text.indexOf(':', from);
  if (colon >= 0) [host, port] = [text.slice(0, colon), text.slice(colon + 1)];
  const number = port === undefined ? undefined : Number(port);
  if (
    port !== undefined &&
    (String(number) !== port ||
      !(Number(number) >= 1 && Number(number) <= 65_535) ||
      Number(number) % 1 !== 0)
  )
    // set with port
    return undefined;
  const canonical = hostOf(host);
  return canonical === undefined ? undefined : { host: canonical, port: number };
}

function hostOf(text: string): string | undefined {
  if (text.startsWith('[')) return text.endsWith(']') ? v6Of(text.slice(1, -1)) : undefined;
  if (isIPv4(text)) return text;
  const name = (text.endsWith('.') ? text.slice(0, -1) : text).toLowerCase();
  // Of the characters that change with case, some outside ASCII would come to be inside.
  for (const letter of text) if (letter.charCodeAt(0) > 126) return undefined;
  if (name === '' || name.length > 253 || isIPv4(name)) return undefined;
  const labels = name.split('.');
  if (!labels.every(isLabel) || looksLikeNumber(labels.at(-1) ?? '')) return undefined;
  return name;
}

function isLabel(label: string): boolean {
  const inner = consistsOf(label, `${SMALL}0123456789_-`);
  return (
    inner && label.length > 0 && label.length <= 63 && label[0] !== '-' && !label.endsWith('-')
  );
}

/** What WHATWG calls "ends in a number". */
function looksLikeNumber(label: string): boolean {
  const digits = label.startsWith('0x') ? label.slice(2) : label;
  const known = label.startsWith('0x') ? '0123456789abcdef' : '0123456789';
  return consistsOf(digits, known);
}

function v6Of(inner: string): string | undefined {
  if (!isIPv6(inner) || inner.includes('%')) return undefined;
  const shortest = new URL(`http://[${inner}]/`).hostname.slice(1, -1);
  return TRANSITION.check(shortest, 'ipv6') || isIsatap(shortest) ? undefined : shortest;
}

const TRANSITION = new BlockList();
for (const [base, bits] of [
  ['::ffff:0:0', 96],
  ['64:ff9b::', 96],
  ['64:ff9b:1::', 48],
  ['2002::', 16],
  ['2001::', 32],
] as const)
  TRANSITION.addSubnet(base, bits, 'ipv6');
TRANSITION.addRange('::2', '::ffff:ffff', 'ipv6');

function isIsatap(address: string): boolean {
  const [head = '', tail = ''] = address.split('::');
  const [left, right] = [head, tail].map((side) => (side === '' ? [] : side.split(':')));
  const zeros = 8 - (left?.length ?? 0) - (right?.length ?? 0);
  const groups = [...(left ?? []), ...Array.from({ length: zeros }, () => '0'), ...(right ?? [])];
  return ['0', '100', '200', '300'].includes(groups[4] ?? '') && groups[5] === '5efe';
}

/** Path and query as they must be written. */
function canonicalPath(text: string): string | undefined {
  if (!text.startsWith('/') || text.includes('#')) return undefined;
  const mark = text.indexOf('?');
  const path = mark < 0 ? text : text.slice(0, mark);
  const query = mark < 0 ? '' : text.slice(mark + 1);
  if (path.length > 8_192 || query.length > 16_384) return undefined;
  for (let i = 0; i < query.length; i++)
    if (query.charCodeAt(i) <= 32 || query.charCodeAt(i) >= 127) return undefined;
  const segments = path.slice(1).split('/');
  const sound = segments.every(
    (segment, i) => isSegment(segment) && (segment !== '' || i === segments.length - 1),
  );
  return sound ? text : undefined;
}

function isSegment(segment: string): boolean {
  if (segment === '.' || segment === '..') return false;
  const bytes: { readonly byte: number; readonly encoded: boolean }[] = [];
  for (let i = 0; i < segment.length; i++) {
    const letter = segment[i] ?? '';
    if (letter !== '%') {
      if (!PCHAR.has(letter)) return false;
      bytes.push({ byte: letter.charCodeAt(0), encoded: false });
      continue;
    }
    const [high, low] = [segment[i + 1] ?? '', segment[i + 2] ?? ''].map((c) =>
      c === '' ? -1 : '0123456789ABCDEF'.indexOf(c),
    );
    if (high === undefined || low === undefined || high < 0 || low < 0) return false;
    bytes.push({ byte: high * 16 + low, encoded: true });
    i += 2;
  }
  return needsItsEncodings(bytes);
}

/** UTF-8 as RFC 3629 has it; what is encoded is neither plain, nor a separator, nor a control character. */
function needsItsEncodings(
  bytes: readonly { readonly byte: number; readonly encoded: boolean }[],
): boolean {
  for (let i = 0; i < bytes.length; ) {
    const { byte = 0, encoded = false } = bytes[i] ?? {};
    if (byte < 0x80) {
      const letter = String.fromCharCode(byte);
      const forbidden =
        byte < 32 || byte === 127 || UNRESERVED.includes(letter) || '/\\%;'.includes(letter);
      if (encoded && forbidden) return false;
      i += 1;
      continue;
    }
    const length = byte >= 0xf0 ? 4 : byte >= 0xe0 ? 3 : 2;
    let code = byte & (0xff >> (length + 1));
    for (let j = 1; j < length; j++) {
      const next = bytes[i + j]?.byte ?? 0;
      if (next >> 6 !== 2) return false;
      code = code * 64 + (next & 63);
    }
    const least = [0, 0, 0x80, 0x800, 0x10000][length] ?? 0;
    if (byte < 0xc0 || byte > 0xf7 || code < least || code > 0x10ffff) return false;
    if ((code >= 0xd800 && code <= 0xdfff) || (code >= 0x80 && code <= 0x9f)) return false;
    i += length;
  }
  return true;
}
