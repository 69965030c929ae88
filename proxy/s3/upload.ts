import type { OutriderError } from '#core/errors';
import type { Reason } from '#policies';
import { valuesOf } from '../headers.ts';
import { refused } from '../refusal.ts';
import { ALGORITHM, parseAwsTime, type SigningScope } from './sigv4.ts';

/**
 * What programs may sign with: known to everybody, good for nothing. What is signed with it can be verified, so that an upload that
 * was garbled on its way is not stored; what is signed with anything else cannot, and need not.
 */
export const PLACEHOLDER = { accessKeyId: 'OUTRIDER', secretAccessKey: 'OUTRIDER' } as const;

/** The caller's own signature, which goes; of use only where chunks hang on it. */
export interface CallerSignature {
  readonly accessKeyId: string;
  readonly scope: SigningScope;
  readonly signature: string;
}

/** How the caller's body comes. */
export interface Upload {
  readonly framing: 'plain' | 'aws-chunked';
  /** The caller's own SHA-256 of a plain body, in hexadecimal. */
  readonly sha256: string | undefined;
  /** Bytes of the object, or part; undefined where nobody says. */
  readonly length: number | undefined;
  /** Bytes of the whole body where it comes in signed chunks: from that their size can be told. */
  readonly signedBytes: number | undefined;
  /** The checksum that comes behind the last chunk, in lower case. */
  readonly trailer: string | undefined;
  /** Where the chunks are signed. */
  readonly signature: CallerSignature | undefined;
  /** What the object itself is encoded in, `aws-chunked` taken out. */
  readonly contentEncoding: string;
}

/** How far a caller's clock may be off, as with AWS. */
const SKEW_MAX_MS = 15 * 60_000;
const STREAMED = /^STREAMING-(AWS4-HMAC-SHA256|UNSIGNED)-PAYLOAD(-TRAILER)?$/;
/** The checksums of S3 and how long each is in base64. */
export const CHECKSUM_BYTES: Readonly<Record<string, number>> = {
  'x-amz-checksum-crc32': 8,
  'x-amz-checksum-crc32c': 8,
  'x-amz-checksum-crc64nvme': 12,
  'x-amz-checksum-sha1': 28,
  'x-amz-checksum-sha256': 44,
};
/** Headers of the S3 API that store and say no more than what is stored. */
const KEPT =
  /^x-amz-(?:meta-[!#$%&'*+.^_`|~0-9a-z-]+|checksum-(?:crc32c?|crc64nvme|sha1|sha256|type|mode|algorithm)|sdk-checksum-algorithm|storage-class|mp-object-size|object-size)$/;
/** What goes with a copy: which of its bytes, on what conditions, and whether the object's own headers come along. */
const COPY_KEPT =
  /^x-amz-(?:copy-source-(?:range|if-match|if-none-match|if-modified-since|if-unmodified-since)|metadata-directive)$/;
const COPY_SOURCE = 'x-amz-copy-source';
/** Those that are read here and written anew, or mean nothing to anybody. */
const OURS =
  /^x-amz-(?:copy-source|date|content-sha256|decoded-content-length|trailer|security-token|user-agent)$/;

/**
 * What a caller says of its signature and its body. Its signature is not verified, since nothing hangs on it: it is the execution
 * token that says who calls. It must be of the kind that S3 takes all the same, so that what no S3 would take is refused here too.
 * @throws {OutriderError} EGRESS_DENIED, INVALID_REQUEST
 */
export function readUpload(raw: readonly string[], method: string, nowMs: number): Upload {
  assertHeaders(raw);
  const signature = callerSignature(raw, nowMs);
  const payload = one(raw, 'x-amz-content-sha256');
  const streamed = payload === undefined ? null : STREAMED.exec(payload);
  const codings = (one(raw, 'content-encoding') ?? '').split(',').map((each) => each.trim());
  if (!streamed) {
    const isHash = payload !== undefined && /^[0-9a-f]{64}$/.test(payload);
    if (payload !== undefined && !isHash && payload !== 'UNSIGNED-PAYLOAD')
      throw deny('x-amz-content-sha256 is of a kind that is not known here', 'sigv4_required');
    if (codings.some(isAwsChunked))
      throw bad('the body is aws-chunked and x-amz-content-sha256 does not say how');
    return {
      framing: 'plain',
      sha256: isHash ? payload : undefined,
      length: lengthOf(one(raw, 'content-length')),
      signedBytes: undefined,
      trailer: undefined,
      signature: undefined,
      contentEncoding: codings.join(','),
    };
  }
  const [, kind, trailing] = streamed;
  if (method !== 'PUT') throw bad('only a PUT has its body in chunks');
  if (kind !== 'UNSIGNED') assertVerifiable(signature);
  return {
    framing: 'aws-chunked',
    sha256: undefined,
    length: lengthOf(one(raw, 'x-amz-decoded-content-length')),
    signedBytes: kind === 'UNSIGNED' ? undefined : lengthOf(one(raw, 'content-length')),
    trailer: trailing === undefined ? undefined : trailerOf(raw),
    signature: kind === 'UNSIGNED' ? undefined : signature,
    contentEncoding: codings.filter((each) => !isAwsChunked(each)).join(','),
  };
}

/** Names of codings have no case (RFC 9110 8.4.1). */
function isAwsChunked(coding: string): boolean {
  return coding.toLowerCase() === 'aws-chunked';
}

/** The caller's headers that are sent on, to be signed: no other `x-amz-` header survives. */
export function keptHeaders(raw: readonly string[]): [name: string, value: string][] {
  return amzHeaders(raw).filter(([name]) => KEPT.test(name) || COPY_KEPT.test(name));
}

function amzHeaders(raw: readonly string[]): [string, string][] {
  const found: [string, string][] = [];
  for (let at = 0; at + 1 < raw.length; at += 2) {
    const name = (raw[at] ?? '').toLowerCase();
    if (name.startsWith('x-amz-')) found.push([name, raw[at + 1] ?? '']);
  }
  return found;
}

function assertHeaders(raw: readonly string[]): void {
  const seen = new Set<string>();
  const headers = amzHeaders(raw);
  for (const [name, value] of headers) {
    if (!KEPT.test(name) && !OURS.test(name) && !COPY_KEPT.test(name) && !isUsual(name, value))
      throw name.startsWith(COPY_SOURCE)
        ? deny('this of a copy is not allowed here', 's3_copy_source_forbidden')
        : deny(`the header ${name} is not allowed here`, 's3_subresource_forbidden');
    if (seen.has(name)) throw bad(`the header ${name} is given twice`);
    seen.add(name);
  }
  const copies = seen.has(COPY_SOURCE);
  if (!copies && headers.some(([name]) => COPY_KEPT.test(name)))
    throw deny('there is nothing to copy', 's3_copy_source_forbidden');
  if (copies && one(raw, 'content-length') !== '0') throw bad('a copy has Content-Length: 0');
}

/** What an object is without this header, which clients send all the same. */
function isUsual(name: string, value: string): boolean {
  return name === 'x-amz-acl' && value === 'private';
}

function callerSignature(raw: readonly string[], nowMs: number): CallerSignature | undefined {
  const time = one(raw, 'x-amz-date');
  if (time !== undefined) {
    const ms = parseAwsTime(time);
    if (ms === undefined || Math.abs(ms - nowMs) > SKEW_MAX_MS)
      throw deny('x-amz-date is not the time of now', 'sigv4_date_skew');
  }
  const value = one(raw, 'authorization');
  if (value === undefined) return undefined;
  const [, accessKeyId = '', date, region = '', service, names = '', signature = ''] =
    /^AWS4-HMAC-SHA256 +Credential=([!-.0-~]{1,128})\/(\d{8})\/([a-zA-Z0-9-]{1,64})\/([a-z0-9-]{1,32})\/aws4_request, *SignedHeaders=([a-z0-9;_.-]{1,4096}), *Signature=([0-9a-f]{64})$/.exec(
      value,
    ) ?? [];
  if (date === undefined)
    throw deny(`the request must be signed with ${ALGORITHM} or not at all`, 'sigv4_required');
  if (time === undefined) throw deny('x-amz-date is missing', 'sigv4_date_skew');
  if (service !== 's3' || time.slice(0, 8) !== date)
    throw deny('the signature is for another service or day', 'sigv4_scope_forbidden');
  const signed = new Set(names.split(';'));
  const left = amzHeaders(raw).find(([name]) => !signed.has(name) && name !== 'x-amz-user-agent');
  if (left) throw deny(`the header ${left[0]} is not signed`, 'sigv4_unsigned_amz_header');
  return { accessKeyId, scope: { time, region, service }, signature };
}

/** Chunks that nobody could verify would be stored as they came, whatever happened to them. */
function assertVerifiable(
  signature: CallerSignature | undefined,
): asserts signature is CallerSignature {
  if (!signature)
    throw deny('signed chunks hang on a signature in Authorization', 'sigv4_required');
  if (signature.accessKeyId !== PLACEHOLDER.accessKeyId)
    throw deny(
      `chunks can be verified only where they are signed with the placeholder ${PLACEHOLDER.accessKeyId} (access key id and secret): use it, or leave chunks unsigned`,
      'sigv4_chunk_signature',
    );
}

function trailerOf(raw: readonly string[]): string {
  const name = one(raw, 'x-amz-trailer')?.toLowerCase() ?? '';
  if (!Object.hasOwn(CHECKSUM_BYTES, name))
    throw refused(
      'INVALID_REQUEST',
      'x-amz-trailer does not name one checksum of S3',
      'trailer_forbidden',
    );
  return name;
}

function lengthOf(text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  const length = /^\d{1,15}$/.test(text) ? Number(text) : Number.NaN;
  if (!Number.isSafeInteger(length)) throw bad('the length is not a plain number');
  return length;
}

/** Two of one name would be read in two ways. */
function one(raw: readonly string[], name: string): string | undefined {
  const values = valuesOf(raw, name);
  if (values.length > 1) throw bad(`the header ${name} is given twice`);
  return values[0];
}

function deny(message: string, reason: Reason): OutriderError {
  return refused('EGRESS_DENIED', message, reason);
}

function bad(message: string): OutriderError {
  return refused('INVALID_REQUEST', message, 'header_value');
}
