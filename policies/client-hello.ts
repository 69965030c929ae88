import type { Host } from './host.ts';
import type { Reason } from './reason.ts';

/** What the first bytes of a connection say. */
export type ClientHello =
  | { readonly state: 'more' }
  | { readonly state: 'invalid'; readonly reason: Reason }
  | Hello;

export interface Hello {
  readonly state: 'hello';
  /** In lower case; null where the hello names none. */
  readonly serverName: string | null;
  /** Whether the true server name is, or pretends to be, encrypted. */
  readonly ech: boolean;
  readonly alpn: readonly string[];
}

/** No ClientHello that a browser or a library sends comes near it, post-quantum key shares included. */
export const CLIENT_HELLO_MAX = 65_536;

const RECORD = { handshake: 22, max: 16_384, header: 5 };
const CLIENT_HELLO = 1;
const EXTENSION = { serverName: 0, alpn: 16 };
/** encrypted_client_hello (RFC 9849), its last drafts, and the ESNI before it. */
const ENCRYPTED = new Set([0xfe0d, 0xfe0a, 0xfe09, 0xfe08, 0xffce]);

/**
 * Reads a TLS ClientHello (RFC 8446, 4.1.2; RFC 6066, 3) from the first bytes of a connection, across as many records as it
 * takes. Reads nothing behind it, keeps nothing, and says `more` until the hello is whole or could no longer be one.
 */
export function readClientHello(bytes: Uint8Array): ClientHello {
  const message = joinRecords(bytes);
  if (message === 'invalid') return INVALID;
  if (message.length >= 1 && message[0] !== CLIENT_HELLO) return INVALID;
  if (message.length < 4) return MORE;
  const length = u24(message, 1);
  if (length > CLIENT_HELLO_MAX) return INVALID;
  if (message.length < 4 + length) return MORE;
  try {
    return parseHello(new Reader(message.subarray(4, 4 + length)));
  } catch (error) {
    if (error instanceof Malformed) return INVALID;
    throw error;
  }
}

/** Why a tunnel to `host` must not carry this hello; undefined where it may. An address has no server name (RFC 6066, 3). */
export function helloRefusal({ host }: { readonly host: Host }, hello: Hello): Reason | undefined {
  if (hello.ech) return 'ech_unsupported';
  if (host.ip) return hello.serverName === null ? undefined : 'sni_mismatch';
  if (hello.serverName === null) return 'sni_missing';
  return hello.serverName === host.text ? undefined : 'sni_mismatch';
}

const MORE = { state: 'more' } as const;
const INVALID = { state: 'invalid', reason: 'protocol_mismatch' } as const;

/** The handshake bytes that are there so far. Only whole or beginning handshake records of TLS 1.x may stand before the end of the hello. */
function joinRecords(bytes: Uint8Array): Uint8Array | 'invalid' {
  const joined = new Uint8Array(Math.min(bytes.length, CLIENT_HELLO_MAX + 4));
  let length = 0;
  for (let at = 0; at < bytes.length; ) {
    const needed = length >= 4 ? 4 + u24(joined, 1) : Number.POSITIVE_INFINITY;
    if (length >= needed) break;
    const header = bytes.subarray(at, at + RECORD.header);
    if (!couldBeRecord(header)) return 'invalid';
    if (header.length < RECORD.header) break;
    const size = u16(header, 3);
    if (size === 0 || size > RECORD.max) return 'invalid';
    const fragment = bytes.subarray(at + RECORD.header, at + RECORD.header + size);
    const room = joined.length - length;
    joined.set(fragment.subarray(0, room), length);
    length += Math.min(fragment.length, room);
    at += RECORD.header + size;
  }
  return joined.subarray(0, length);
}

function couldBeRecord(header: Uint8Array): boolean {
  return (
    header[0] === RECORD.handshake &&
    (header.length < 2 || header[1] === 3) &&
    (header.length < 3 || (header[2] ?? 0) <= 4)
  );
}

function parseHello(reader: Reader): ClientHello {
  reader.skip(2 + 32);
  reader.vector(1, 0, 32);
  reader.vector(2, 2, 65_534);
  reader.vector(1, 1, 255);
  if (reader.atEnd()) return { state: 'hello', serverName: null, ech: false, alpn: [] };
  const extensions = reader.vector(2, 0, 65_535);
  if (!reader.atEnd()) throw new Malformed();
  const seen = new Set<number>();
  let serverName: string | null = null;
  let alpn: readonly string[] = [];
  while (!extensions.atEnd()) {
    const type = extensions.number(2);
    const body = extensions.vector(2, 0, 65_535);
    // A second one of a kind could say something else to somebody who reads the last.
    if (seen.has(type)) throw new Malformed();
    seen.add(type);
    if (type === EXTENSION.serverName) serverName = readServerName(body);
    if (type === EXTENSION.alpn) alpn = readAlpn(body);
  }
  return { state: 'hello', serverName, ech: [...ENCRYPTED].some((type) => seen.has(type)), alpn };
}

/** Exactly one entry, of the type host_name. */
function readServerName(body: Reader): string {
  const list = body.vector(2, 1, 65_535);
  if (!body.atEnd() || list.number(1) !== 0) throw new Malformed();
  const name = list.vector(2, 1, 255).text();
  if (!list.atEnd() || !/^[A-Za-z0-9_.-]+$/.test(name)) throw new Malformed();
  return name.toLowerCase();
}

function readAlpn(body: Reader): string[] {
  const list = body.vector(2, 2, 65_535);
  if (!body.atEnd()) throw new Malformed();
  const names: string[] = [];
  while (!list.atEnd()) names.push(list.vector(1, 1, 255).text());
  return names;
}

class Malformed extends Error {}

/** Reads the presentation language of RFC 8446, 3; leaves by `Malformed` where bytes are missing or a length is out of bounds. */
class Reader {
  readonly #bytes: Uint8Array;
  #at = 0;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
  }

  atEnd(): boolean {
    return this.#at === this.#bytes.length;
  }

  skip(count: number): void {
    this.#take(count);
  }

  number(size: 1 | 2): number {
    const bytes = this.#take(size);
    return size === 1 ? (bytes[0] ?? 0) : u16(bytes, 0);
  }

  vector(lengthSize: 1 | 2, min: number, max: number): Reader {
    const length = this.number(lengthSize);
    if (length < min || length > max) throw new Malformed();
    return new Reader(this.#take(length));
  }

  /** The rest as Latin-1: one character a byte. */
  text(): string {
    return String.fromCharCode(...this.#take(this.#bytes.length - this.#at));
  }

  #take(count: number): Uint8Array {
    const end = this.#at + count;
    if (end > this.#bytes.length) throw new Malformed();
    const taken = this.#bytes.subarray(this.#at, end);
    this.#at = end;
    return taken;
  }
}

function u16(bytes: Uint8Array, at: number): number {
  return ((bytes[at] ?? 0) << 8) | (bytes[at + 1] ?? 0);
}

function u24(bytes: Uint8Array, at: number): number {
  return ((bytes[at] ?? 0) << 16) | u16(bytes, at + 1);
}
