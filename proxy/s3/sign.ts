import type { Transform } from 'node:stream';
import { refused } from '../refusal.ts';
import { recodeUpload } from './body.ts';
import { chunkBytesOf, encodedLength } from './chunk-encoder.ts';
import {
  type AwsCredentials,
  authorization,
  awsEncode,
  awsTime,
  canonicalQuery,
  EMPTY_SHA256,
  type SigningScope,
  sha256,
  signature,
  signingKey,
} from './sigv4.ts';
import { CHECKSUM_BYTES, keptHeaders, readUpload, type Upload } from './upload.ts';

/** A request of a caller that is allowed, and where it goes. */
export interface S3Request {
  readonly method: string;
  /** What the endpoint has before every path; empty, or with its leading slash. */
  readonly basePath: string;
  /** The caller's path, decoded, without its leading slash. */
  readonly key: string;
  readonly query: readonly (readonly [name: string, value: string])[];
  /** The value of `Host`. */
  readonly host: string;
  readonly rawHeaders: readonly string[];
  /** Of a copy: the value of `x-amz-copy-source`, as the endpoint names it. */
  readonly copySource?: string | undefined;
  /** Where it has been read already. */
  readonly body: Buffer | undefined;
}

/** What is sent: `strip` and `inject` as everywhere, and what the body must go through. */
export interface SignedRequest {
  readonly path: string;
  readonly strip: readonly string[];
  readonly inject: readonly (readonly [name: string, value: string])[];
  readonly transform: Transform | undefined;
}

/** Headers besides those of AWS that a signature covers where they are there. */
const SIGNED_TOO = ['content-type', 'content-md5', 'range'];

/**
 * Signs a request anew for S3: nothing of the caller's signature is left. A body whose SHA-256 the caller gives is signed with that,
 * any other in chunks on its way. `credentials` absent: sent without a signature, for what is public.
 * @throws {OutriderError} INVALID_REQUEST for a body that has no length
 */
export function signS3(
  request: S3Request,
  region: string,
  credentials: AwsCredentials | undefined,
  nowMs: number,
): SignedRequest {
  const upload = readUpload(request.rawHeaders, request.method, nowMs);
  const path = pathOf(request);
  const strip = ['authorization'];
  const kept = keptHeaders(request.rawHeaders);
  if (!credentials) {
    if (request.method === 'PUT' || request.method === 'POST')
      throw refused(
        'INVALID_REQUEST',
        'this datasource is public: it only reads',
        'method_not_allowed',
      );
    return { path, strip, inject: kept, transform: undefined };
  }
  const scope: SigningScope = { time: awsTime(nowMs), region, service: 's3' };
  const sent = bodyOf(request, upload);
  const { sessionToken } = credentials;
  const { copySource } = request;
  const inject: (readonly [string, string])[] = [
    ...kept,
    ...(copySource === undefined ? [] : [['x-amz-copy-source', copySource] as const]),
    ...sent.headers,
    ['x-amz-content-sha256', sent.payload],
    ['x-amz-date', scope.time],
    ...(sessionToken === undefined ? [] : [['x-amz-security-token', sessionToken] as const]),
  ];
  const parts = {
    method: request.method,
    path: `${request.basePath}/${request.key}`,
    normalize: false,
    query: request.query,
    headers: [
      ['host', request.host] as const,
      ...inject.filter(([name]) => name !== 'content-length'),
      ...SIGNED_TOO.flatMap((name) => callerHeader(request.rawHeaders, name)),
    ],
    payload: sent.payload,
  };
  return {
    path,
    strip: [...strip, 'content-encoding', ...(sent.chunked ? ['content-length'] : [])],
    inject: [...inject, ['authorization', authorization(parts, scope, credentials)]],
    transform: sent.chunked
      ? recodeUpload(sent.chunked, {
          key: signingKey(credentials.secretAccessKey, scope),
          scope,
          seed: signature(parts, scope, credentials),
        })
      : undefined,
  };
}

function pathOf({ basePath, key, query }: S3Request): string {
  const path = `${basePath}/${key.split('/').map(awsEncode).join('/')}`;
  return query.length === 0 ? path : `${path}?${canonicalQuery(query)}`;
}

function bodyOf(
  { method, body }: S3Request,
  upload: Upload,
): {
  readonly payload: string;
  readonly headers: readonly (readonly [string, string])[];
  readonly chunked?: Upload & { readonly length: number };
} {
  const { contentEncoding, length, trailer } = upload;
  const encoding = contentEncoding === '' ? [] : [['content-encoding', contentEncoding] as const];
  if (body) return { payload: sha256(body), headers: encoding };
  if (upload.sha256 !== undefined) return { payload: upload.sha256, headers: encoding };
  if (method !== 'PUT') return { payload: EMPTY_SHA256, headers: encoding };
  if (length === undefined)
    throw refused(
      'INVALID_REQUEST',
      'an upload says how long it is: send Content-Length, or x-amz-decoded-content-length with aws-chunked',
      'cl_invalid',
    );
  if (length === 0 && trailer === undefined && upload.framing === 'plain')
    return { payload: EMPTY_SHA256, headers: encoding };
  const behind =
    trailer === undefined ? undefined : { name: trailer, valueBytes: CHECKSUM_BYTES[trailer] ?? 0 };
  return {
    payload: `STREAMING-AWS4-HMAC-SHA256-PAYLOAD${behind ? '-TRAILER' : ''}`,
    headers: [
      [
        'content-encoding',
        ['aws-chunked', ...(contentEncoding === '' ? [] : [contentEncoding])].join(','),
      ],
      [
        'content-length',
        String(encodedLength(length, behind, chunkBytesOf(length, upload.signedBytes))),
      ],
      ['x-amz-decoded-content-length', String(length)],
      ...(trailer === undefined ? [] : [['x-amz-trailer', trailer] as const]),
    ],
    chunked: { ...upload, length },
  };
}

function callerHeader(raw: readonly string[], wanted: string): (readonly [string, string])[] {
  const found: (readonly [string, string])[] = [];
  for (let at = 0; at + 1 < raw.length; at += 2)
    if (raw[at]?.toLowerCase() === wanted) found.push([wanted, raw[at + 1] ?? '']);
  return found;
}
