import type { IncomingHttpHeaders } from 'node:http';
import { OutriderError } from '#core/errors';
import { madeOnce } from '#core/made-once';

const TOKEN = "[!#$%&'*+.^_`|~0-9A-Za-z-]+";
const PARAMETER = `(${TOKEN})=(${TOKEN}|"(?:[^"\\\\]|\\\\.)*")`;
/** RFC 9110 section 8.3.1. No part of it can match what the next one does, so that it takes no longer than the value is long. */
const WELL_FORMED = new RegExp(`^${TOKEN}/${TOKEN}[ \\t]*(?:;[ \\t]*(?:${PARAMETER}[ \\t]*)?)*$`);
const PARAMETERS = new RegExp(`;[ \\t]*${PARAMETER}`, 'g');

/** What every body to a server is: JSON is UTF-8 (RFC 8259 section 8.1), and what the gateway has read is what the server is to read. */
export const JSON_TYPE = 'application/json';
export const EVENTS_TYPE = 'text/event-stream';

/** In lower case, without parameters; empty where none is said. */
export function mediaTypeOf(headers: IncomingHttpHeaders): string {
  return contentType(headers).mediaType;
}

const contentType = madeOnce((headers: IncomingHttpHeaders) => ({
  mediaType: headers['content-type']?.split(';', 1)[0]?.trim().toLowerCase() ?? '',
}));

/**
 * Refuses a body that says it is to be decoded before it is read: one that is compressed, or text of another charset than UTF-8. A server
 * would decode it, and see another call than the gateway. What is no media type, or names a charset twice, says nothing that is sure.
 * @throws {OutriderError} UNSUPPORTED_MEDIA_TYPE
 */
export function assertReadAsWritten(headers: IncomingHttpHeaders): void {
  const encoding = headers['content-encoding'] ?? 'identity';
  if (encoding.toLowerCase() !== 'identity')
    throw unsupported('send the body as it is: a Content-Encoding is not read');
  const type = headers['content-type'];
  if (type === undefined || type === JSON_TYPE) return;
  if (!WELL_FORMED.test(type)) throw unsupported('the Content-Type is not a media type');
  const charsets = [...type.matchAll(PARAMETERS)].filter(([, name]) =>
    /^charset$/i.test(name ?? ''),
  );
  if (charsets.length > 1 || charsets.some(([, , value]) => !/^"?utf-8"?$/i.test(value ?? '')))
    throw unsupported('JSON is UTF-8: name no other charset in Content-Type, and none twice');
}

function unsupported(message: string): OutriderError {
  return new OutriderError('UNSUPPORTED_MEDIA_TYPE', message);
}
