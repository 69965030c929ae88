import { createHash } from 'node:crypto';

/** RFC 6455, 1.3. */
const GUID = '258EAFA5-E914-47DA-95CA-C5AB0DC85B11';
/** RFC 6455, 4.1: sixteen bytes in base64. */
const KEY = /^[A-Za-z0-9+/]{21}[AQgw]==$/;

/** A head as both sides read it: names and values in turn. */
type RawHeaders = readonly string[];

/** Whether a head asks to go on as a WebSocket, rightly or not. `Connection` has been looked at by the parser. */
export function asksForWebSocket(rawHeaders: RawHeaders): boolean {
  return valuesOf(rawHeaders, 'upgrade').some((value) => /^\s*websocket\s*$/i.test(value));
}

/**
 * The key of a complete opening handshake (RFC 6455, 4.2.1): version 13, each field once. Undefined where it is none; the other side would
 * not take it for one, and what follows would be read as HTTP.
 */
export function handshakeKey(rawHeaders: RawHeaders): string | undefined {
  const [key, ...keys] = valuesOf(rawHeaders, 'sec-websocket-key');
  const [version, ...versions] = valuesOf(rawHeaders, 'sec-websocket-version');
  const once = keys.length === 0 && versions.length === 0;
  return once && version === '13' && key !== undefined && KEY.test(key) ? key : undefined;
}

/** The answer to a key (RFC 6455, 4.2.2). */
export function acceptOf(key: string): string {
  return createHash('sha1').update(`${key}${GUID}`).digest('base64');
}

/** Whether a 101 is the answer to this very key: only then do both ends speak WebSocket from here on. */
export function acceptsHandshake(rawHeaders: RawHeaders, key: string): boolean {
  const accepts = valuesOf(rawHeaders, 'sec-websocket-accept');
  return (
    asksForWebSocket(rawHeaders) &&
    valuesOf(rawHeaders, 'connection').some((value) =>
      /(?:^|,)\s*upgrade\s*(?:,|$)/i.test(value),
    ) &&
    accepts.length === 1 &&
    accepts[0] === acceptOf(key)
  );
}

/** The head of a 101 with these fields, which must not be those of the connection. */
export function switchingProtocols(headers: RawHeaders): string {
  const lines = ['HTTP/1.1 101 Switching Protocols', 'upgrade: websocket', 'connection: Upgrade'];
  for (let at = 0; at + 1 < headers.length; at += 2)
    lines.push(`${headers[at]}: ${headers[at + 1]}`);
  return `${lines.join('\r\n')}\r\n\r\n`;
}

function valuesOf(rawHeaders: RawHeaders, name: string): string[] {
  const values: string[] = [];
  for (let at = 0; at + 1 < rawHeaders.length; at += 2)
    if (rawHeaders[at]?.toLowerCase() === name) values.push(rawHeaders[at + 1] ?? '');
  return values;
}
