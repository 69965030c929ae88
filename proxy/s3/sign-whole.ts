import type { SignedRequest } from './sign.ts';
import {
  type AwsCredentials,
  authorization,
  awsTime,
  canonicalQuery,
  type SigningScope,
  sha256,
} from './sigv4.ts';

/** A request of a caller that is allowed, with its whole body. */
export interface WholeRequest {
  readonly method: string;
  /** As it is sent. */
  readonly path: string;
  readonly query: readonly (readonly [name: string, value: string])[];
  /** The value of `Host`. */
  readonly host: string;
  readonly rawHeaders: readonly string[];
  readonly body: Buffer;
}

/** Of the caller's own signature: they say nothing else. */
const OF_SIGNATURE = /^x-amz-(?:date|content-sha256|security-token|user-agent)$/;
/** Signed where it is there, besides those of AWS, which choose what is called. */
const CONTENT_TYPE = 'content-type';

/**
 * Signs a request anew for a service of AWS other than S3: nothing of the caller's signature is left, its other `x-amz-` headers go on
 * and are signed.
 */
export function signWhole(
  { method, path, query, host, rawHeaders, body }: WholeRequest,
  { region, service }: Pick<SigningScope, 'region' | 'service'>,
  credentials: AwsCredentials,
  nowMs: number,
): SignedRequest {
  const scope: SigningScope = { time: awsTime(nowMs), region, service };
  const { sessionToken } = credentials;
  const own = pairs(rawHeaders);
  const inject: (readonly [string, string])[] = [
    ...own.filter(([name]) => name.startsWith('x-amz-') && !OF_SIGNATURE.test(name)),
    ['x-amz-date', scope.time],
    ...(sessionToken === undefined ? [] : [['x-amz-security-token', sessionToken] as const]),
  ];
  const headers = [
    ['host', host] as const,
    ...inject,
    ...own.filter(([name]) => name === CONTENT_TYPE),
  ];
  const parts = { method, path, normalize: true, query, headers, payload: sha256(body) };
  return {
    path: query.length === 0 ? path : `${path}?${canonicalQuery(query)}`,
    strip: ['authorization'],
    inject: [...inject, ['authorization', authorization(parts, scope, credentials)]],
    transform: undefined,
  };
}

function pairs(raw: readonly string[]): (readonly [name: string, value: string])[] {
  const found: (readonly [string, string])[] = [];
  for (let at = 0; at + 1 < raw.length; at += 2)
    found.push([(raw[at] ?? '').toLowerCase(), raw[at + 1] ?? '']);
  return found;
}
