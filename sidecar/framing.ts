import { handshakeKey } from '#core/websocket';
import type { Reason } from '#policies';

/** A request head as it stood on the wire: names and values in turn, in order, nothing joined. */
export interface RawHead {
  readonly method: string;
  readonly httpVersion: string;
  readonly rawHeaders: readonly string[];
}

/** What a connection speaks, or asks to speak from here on: a request line that claims another version is refused. */
export type Wire = 'http1' | 'http2' | 'websocket';

const NAME = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/;
/** RFC 9110, 5.5: visible characters, space, tab and obs-text; nothing that could end a line. */
const VALUE = /^[\t\x20-\x7e\x80-\xff]*$/;
const LENGTH = /^(?:0|[1-9]\d{0,14})$/;

const VERSIONS: Readonly<Record<Wire, readonly string[]>> = {
  http1: ['1.1', '1.0'],
  http2: ['2.0'],
  websocket: ['1.1'],
};

/** By which a program names a proxy that is to be asked behind this one: some egress proxies take its word. */
const NEXT_PROXY = ['x-upstream-https-proxy', 'x-upstream-http-proxy'];

/** Headers of which a second one leaves two readings. */
const ONCE: Readonly<Record<string, Reason>> = {
  host: 'host_duplicate',
  'transfer-encoding': 'te_duplicate',
  expect: 'header_forbidden',
  upgrade: 'header_forbidden',
  'x-datasource': 'header_forbidden',
  'content-type': 'header_forbidden',
};

/**
 * Why a head that llhttp accepted is still not taken, or undefined. Everything that two parsers could read differently is
 * refused here (RFC 9112, 6.1 and 11.2), so that nothing has to be repaired later. `countMax` is a number of header lines.
 */
export function headProblem(head: RawHead, countMax: number, wire: Wire): Reason | undefined {
  const { rawHeaders } = head;
  if (!VERSIONS[wire].includes(head.httpVersion)) return 'version';
  if (rawHeaders.length > countMax * 2) return 'too_many_headers';
  const seen = new Map<string, string>();
  for (let at = 0; at < rawHeaders.length; at += 2) {
    const [name, value] = [rawHeaders[at] ?? '', rawHeaders[at + 1] ?? ''];
    if (!NAME.test(name)) return 'header_name';
    if (!VALUE.test(value)) return 'header_value';
    const lower = name.toLowerCase();
    const before = seen.get(lower);
    if (before === undefined) seen.set(lower, value);
    else if (lower === 'via')
      seen.set(lower, `${before},${value}`); // one list (RFC 9110, 5.3)
    else if (lower === 'content-length') return before === value ? 'cl_duplicate' : 'cl_conflict';
    else if (Object.hasOwn(ONCE, lower)) return ONCE[lower];
  }
  return lengthProblem(head, seen) ?? otherProblem(head, seen, wire);
}

/** Whether the head announces a body, whatever the method. */
export function hasBody(rawHeaders: readonly string[]): boolean {
  return (
    headerOf(rawHeaders, 'transfer-encoding') !== undefined ||
    !['0', undefined].includes(headerOf(rawHeaders, 'content-length'))
  );
}

/** The first value of a header, by its lower-case name. */
export function headerOf(rawHeaders: readonly string[], name: string): string | undefined {
  for (let at = 0; at < rawHeaders.length; at += 2) {
    const found = rawHeaders[at];
    if (found?.length === name.length && found.toLowerCase() === name) return rawHeaders[at + 1];
  }
  return undefined;
}

/** Trailer fields that would change what has been decided: framing, routing, identity, the connection (RFC 9110, 6.5.1). */
export function trailersForbidden(rawTrailers: readonly string[]): boolean {
  return rawTrailers.some(
    (name, at) =>
      at % 2 === 0 &&
      /^(?:host|content-|transfer-|trailer|te$|connection|keep-alive|upgrade|expect|authorization|cookie|set-cookie|proxy-|forwarded|x-forwarded-|x-outrider-|x-datasource|range|if-|cache-control|max-forwards)/i.test(
        name,
      ),
  );
}

function lengthProblem(
  { httpVersion }: RawHead,
  headers: ReadonlyMap<string, string>,
): Reason | undefined {
  const length = headers.get('content-length');
  const encoding = headers.get('transfer-encoding');
  if (length !== undefined && encoding !== undefined) return 'cl_and_te';
  if (length !== undefined && !LENGTH.test(length)) return 'cl_invalid';
  if (encoding === undefined) return undefined;
  if (httpVersion === '1.0') return 'te_http10';
  return encoding.toLowerCase() === 'chunked' ? undefined : 'te_unsupported';
}

function otherProblem(
  { method, httpVersion, rawHeaders }: RawHead,
  headers: ReadonlyMap<string, string>,
  wire: Wire,
): Reason | undefined {
  if (httpVersion !== '1.0' && !headers.has('host')) return 'host_missing';
  if (headers.get('host') === '' && method !== 'CONNECT') return 'host_malformed';
  const expect = headers.get('expect');
  if (expect !== undefined && expect.toLowerCase() !== '100-continue') return 'header_forbidden';
  if (method === 'CONNECT' && hasBody(rawHeaders)) return 'upgrade_with_body';
  if (/(?:^|[\s,])outrider(?=[\s,:;(]|$)/i.test(headers.get('via') ?? '')) return 'loop_detected';
  if (NEXT_PROXY.some((name) => headers.has(name))) return 'upstream_proxy_forbidden';
  const upgrade = headers.get('upgrade');
  // An offer of h2c may be passed over (RFC 9110, 7.8), and clients make it unasked; any other asks for another protocol.
  if (upgrade === undefined || /^h2c$/i.test(upgrade.trim())) return undefined;
  if (hasBody(rawHeaders)) return 'upgrade_with_body';
  // Half a handshake is one that the two ends may read differently.
  const complete = wire === 'websocket' && handshakeKey(rawHeaders) !== undefined;
  return complete ? undefined : 'upgrade_not_allowed';
}
