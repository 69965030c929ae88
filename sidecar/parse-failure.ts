import type { Reason } from '#policies';
import { Refused } from './refusal.ts';

/** What node:http says of bytes that llhttp would not take. */
export interface ParseFailure {
  readonly code?: string | undefined;
  /** llhttp's own words; those of the pinned Node. */
  readonly reason?: string | undefined;
  /** The chunk that was being read, and how much of it had been taken. */
  readonly rawPacket?: Buffer | undefined;
  readonly bytesParsed?: number | undefined;
}

const BY_CODE: Readonly<Record<string, Reason>> = {
  ERR_HTTP_REQUEST_TIMEOUT: 'headers_timeout',
  HPE_HEADER_OVERFLOW: 'header_too_large',
  HPE_CHUNK_EXTENSIONS_OVERFLOW: 'chunk_ext_too_long',
  HPE_INVALID_CHUNK_SIZE: 'chunk_size',
  HPE_UNEXPECTED_SPACE: 'obs_fold',
  HPE_CR_EXPECTED: 'line_ending',
  HPE_LF_EXPECTED: 'line_ending',
  HPE_INVALID_VERSION: 'version',
};

/** The longest method name that is answered 405; a longer one is not a method that anybody knows. */
const METHOD_MAX = 20;

/**
 * The reason that tells best why bytes were not taken. Looks at them a second time only to name the fault: whatever it finds,
 * they stay refused.
 */
export function blame(failure: ParseFailure): Refused {
  const { code = '' } = failure;
  const packet = failure.rawPacket ?? Buffer.alloc(0);
  const [method = '', target = '', ...rest] = lineAt(packet, failure.bytesParsed).split(' ');

  if (/preface|PRI/i.test(failure.reason ?? ''))
    return new Refused('method_not_allowed', { status: 400 });
  if (code === 'HPE_INVALID_METHOD') return badMethod(method, rest.length);
  if (code === 'HPE_INVALID_URL') return new Refused(badTarget(method, target));
  // A method that llhttp knows of another protocol, such as RTSP.
  if (code === 'HPE_INVALID_CONSTANT' && rest.length === 1 && /^HTTP\/1\.[01]$/.test(rest[0] ?? ''))
    return badMethod(method, rest.length);
  if (code === 'HPE_INVALID_CONSTANT')
    return new Refused(rest.length === 1 ? 'version' : 'request_line_malformed');
  if (/CRLF/.test(failure.reason ?? '')) return new Refused('line_ending');
  if (/^HPE_(?:INVALID_TRANSFER_ENCODING|(?:INVALID|UNEXPECTED)_CONTENT_LENGTH)$/.test(code))
    return new Refused(badLength(failure, packet));
  if (code === 'HPE_INVALID_HEADER_TOKEN') return new Refused(badHeader(failure, packet));
  if (code === 'HPE_STRICT' || code === 'HPE_CR_EXPECTED' || code === 'HPE_LF_EXPECTED')
    return new Refused(/chunk/i.test(failure.reason ?? '') ? 'chunk_line' : 'line_ending');
  return new Refused(BY_CODE[code] ?? 'request_line_malformed');
}

function badMethod(method: string, wordsBehindTarget: number): Refused {
  if (wordsBehindTarget === 0 || !/^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/.test(method))
    return new Refused('request_line_malformed');
  return new Refused('method_not_allowed', method.length > METHOD_MAX ? { status: 400 } : {});
}

function badTarget(method: string, target: string): Reason {
  const scheme = /^([A-Za-z][A-Za-z0-9+.-]*):/.exec(target)?.[1]?.toLowerCase();
  // eslint-disable-next-line no-control-regex -- the very characters that are looked for
  if (/[\0-\x20\x7f]/.test(target)) return 'control_char';
  if (target.startsWith('/')) return 'path_malformed';
  if (method !== 'CONNECT' && scheme !== undefined && scheme !== 'http' && scheme !== 'https')
    return 'scheme_not_allowed';
  if (/[^\0-\x7f]/.test(target)) return method === 'CONNECT' ? 'non_ascii_host' : 'host_malformed';
  return 'request_target_malformed';
}

function badLength({ code, reason = '' }: ParseFailure, packet: Buffer): Reason {
  if (/can't be present/.test(reason)) return 'cl_and_te';
  const values = headerValues(packet, 'content-length');
  if (code === 'HPE_UNEXPECTED_CONTENT_LENGTH')
    return new Set(values).size === 1 ? 'cl_duplicate' : 'cl_conflict';
  if (code === 'HPE_INVALID_CONTENT_LENGTH') return 'cl_invalid';
  return headerValues(packet, 'transfer-encoding').length > 1 ? 'te_duplicate' : 'te_unsupported';
}

/** The line in which llhttp stopped says which rule of a header line it broke. */
function badHeader({ reason = '', bytesParsed }: ParseFailure, packet: Buffer): Reason {
  if (/whitespace/i.test(reason)) return 'obs_fold';
  const line = lineAt(packet, bytesParsed);
  const [name = ''] = line.split(':', 1);
  if (/^[ \t]/.test(line)) return 'obs_fold';
  if (/value/i.test(reason))
    return /^transfer-encoding$/i.test(name) ? 'te_unsupported' : 'control_char';
  return line.includes(':') ? 'header_name' : 'header_line';
}

function headerValues(packet: Buffer, name: string): string[] {
  return packet
    .toString('latin1')
    .split('\r\n\r\n', 1)
    .flatMap((head) => head.split('\r\n'))
    .filter((line) => line.toLowerCase().startsWith(`${name}:`))
    .map((line) => line.slice(name.length + 1).trim());
}

/** The line in which the parser stopped: before it there may be requests that were good. */
function lineAt(packet: Buffer, bytesParsed = 0): string {
  const text = packet.toString('latin1');
  const start = text.lastIndexOf('\n', Math.max(0, bytesParsed - 1)) + 1;
  return (text.slice(start).split('\n', 1)[0] ?? '').replace(/\r$/, '');
}
