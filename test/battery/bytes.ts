import { gzipSync } from 'node:zlib';
import { CaseUnusable } from './case.ts';

/** What stands for a placeholder that only the running mesh can tell. */
export interface Known {
  /** The value of a secret by the name that the case gives it. */
  readonly secret: (name: string) => string;
  readonly token: string;
  readonly sidecarId: string;
}

/** Larger things are only ever begun. */
const EXPANDED_MAX = 64 * 2 ** 20;

const SIZES: Readonly<Record<string, number>> = { KB: 1e3, MB: 1e6, GB: 1e9 };

const ENCODINGS: Readonly<Record<string, BufferEncoding>> = {
  utf8: 'utf8',
  'utf-8': 'utf8',
  ascii: 'latin1',
  binary: 'latin1',
  latin1: 'latin1',
  'latin-1': 'latin1',
  'iso-8859-1': 'latin1',
  base64: 'base64',
  hex: 'hex',
  'utf-16le': 'utf16le',
  utf16le: 'utf16le',
};

type Expand = (argument: string, known: Known) => Buffer;

const PLACEHOLDERS: Readonly<Record<string, Expand>> = {
  token: (_argument, { token }) => Buffer.from(token),
  secret: (argument, { secret }) => Buffer.from(secret(argument)),
  sidecar_id: (_argument, { sidecarId }) => Buffer.from(sidecarId),
  repeat: (argument) =>
    /^\d+$/.test(argument)
      ? Buffer.alloc(Math.min(Number(argument), EXPANDED_MAX), 'a')
      : Buffer.alloc(2 * 2 ** 20, Buffer.from(unescaped(argument), 'latin1')),
  'repeat-header': (argument) =>
    Buffer.from(Array.from({ length: Number(argument) }, (_, at) => `X-H${at}: v`).join('\r\n')),
  gzip: (argument) => gzipSync(zeros(argument) ?? Buffer.from(argument), { level: 9 }),
  // FIN and binary; a length of 64 bits whose highest says that it is negative.
  'ws-frame': (argument) =>
    Buffer.concat([Buffer.from([0x82, 127]), bigEndian(/len=2\^(\d+)/.exec(argument)?.[1])]),
};

/** The bytes that a text of a case stands for. @throws {CaseUnusable} for a placeholder that nobody knows */
export function bytesOf(text: string, encoding: string | undefined, known: Known): Buffer {
  const parts: Buffer[] = [];
  let rest = text;
  for (let found = placeholderIn(rest); found; found = placeholderIn(rest)) {
    parts.push(encoded(rest.slice(0, found.at), encoding), found.expand(found.argument, known));
    rest = rest.slice(found.end);
  }
  const strange = /\{[a-z][a-z0-9_-]*:[^{}\s"=,]*\}/.exec(rest);
  if (strange && !/"/.test(rest))
    throw new CaseUnusable(`nobody knows the placeholder ${strange[0]}`);
  return Buffer.concat([...parts, encoded(rest, encoding)]);
}

function placeholderIn(
  text: string,
): { at: number; end: number; argument: string; expand: Expand } | undefined {
  const found = /\{([a-z][a-z0-9_-]*)(?::([^{}]*))?\}/.exec(text);
  const expand = found?.[1] === undefined ? undefined : PLACEHOLDERS[found[1]];
  if (!found || !expand) return undefined;
  const end = found.index + found[0].length;
  return { at: found.index, end, argument: found[2] ?? '', expand };
}

/** Latin-1 unless told, so that a character is a byte; what does not fit into one can only be UTF-8. */
function encoded(text: string, encoding: string | undefined): Buffer {
  // oxlint-disable-next-line no-control-regex -- all that is one byte
  const bytes = encoding === undefined && /^[\0-\xff]*$/.test(text);
  if (bytes) return Buffer.from(text, 'latin1');
  const charset = ENCODINGS[(encoding ?? 'utf8').toLowerCase()];
  if (!charset) throw new CaseUnusable(`nobody knows the encoding "${encoding}"`);
  return Buffer.from(text, charset);
}

function unescaped(text: string): string {
  return text.replaceAll('\\r', '\r').replaceAll('\\n', '\n');
}

function zeros(argument: string): Buffer | undefined {
  const [, count = '0', unit = ''] = /^(\d+) ?([KMG]B) zeros$/.exec(argument) ?? [];
  const size = Number(count) * (SIZES[unit] ?? 0);
  return size === 0 ? undefined : Buffer.alloc(Math.min(size, EXPANDED_MAX));
}

function bigEndian(power: string | undefined): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64BE(1n << BigInt(power ?? 63));
  return bytes;
}
