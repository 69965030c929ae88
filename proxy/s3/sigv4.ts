import { createHash, createHmac } from 'node:crypto';

/** What a request is signed with. None of it but the id, and the token, is ever sent. */
export interface AwsCredentials {
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  readonly sessionToken?: string | undefined;
}

/** What a signature is good for. */
export interface SigningScope {
  /** `YYYYMMDD'T'HHMMSS'Z'`. */
  readonly time: string;
  readonly region: string;
  readonly service: string;
}

/** A request as it goes on the wire. */
export interface SignedParts {
  readonly method: string;
  /** What is encoded to be signed: for S3 the decoded path, for any other service the path as it is sent. */
  readonly path: string;
  /** Whether dot segments and empty segments are taken out before: everywhere but in S3, where they are part of a key. */
  readonly normalize: boolean;
  /** Names and values, not encoded. */
  readonly query: readonly (readonly [name: string, value: string])[];
  /** The headers that are signed; several of one name in their order. A character of a value is a byte, as Node reads them. */
  readonly headers: readonly (readonly [name: string, value: string])[];
  /** Hexadecimal SHA-256 of the body, or one of the words that S3 has for bodies that are signed otherwise. */
  readonly payload: string;
}

/** Not `\s`: among the bytes of UTF-8 is that of a no-break space. */
const SPACES = /[\t\n\v\f\r ]+/g;

export const ALGORITHM = 'AWS4-HMAC-SHA256';
export const EMPTY_SHA256 = sha256('');

/** Signature Version 4: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html */
export function signature(
  parts: SignedParts,
  scope: SigningScope,
  { secretAccessKey }: Pick<AwsCredentials, 'secretAccessKey'>,
): string {
  const text = stringToSign(canonicalRequest(parts), scope);
  return hmac(signingKey(secretAccessKey, scope), text).toString('hex');
}

/** The value of `Authorization`. */
export function authorization(
  parts: SignedParts,
  scope: SigningScope,
  credentials: AwsCredentials,
): string {
  return (
    `${ALGORITHM} Credential=${credentials.accessKeyId}/${scopeText(scope)}, ` +
    `SignedHeaders=${signedNames(parts.headers)}, Signature=${signature(parts, scope, credentials)}`
  );
}

export function canonicalRequest(parts: SignedParts): string {
  const byName = new Map<string, string[]>();
  for (const [name, value] of parts.headers) {
    const lower = name.toLowerCase();
    const values = byName.get(lower) ?? [];
    values.push(value.replace(SPACES, ' ').replace(/^ | $/g, ''));
    byName.set(lower, values);
  }
  const headers = [...byName]
    .toSorted(byText)
    .map(([name, values]) => `${name}:${values.join(',')}\n`);
  return [
    parts.method,
    canonicalPath(parts),
    canonicalQuery(parts.query),
    headers.join(''),
    signedNames(parts.headers),
    parts.payload,
  ].join('\n');
}

export function stringToSign(canonical: string, scope: SigningScope): string {
  // All but values of headers is ASCII by now, and those are bytes of the wire.
  const hash = sha256(Buffer.from(canonical, 'latin1'));
  return [ALGORITHM, scope.time, scopeText(scope), hash].join('\n');
}

/** Sorted, each name and value encoded; also what should be sent, so that nobody reads another query than was signed. */
export function canonicalQuery(query: readonly (readonly [name: string, value: string])[]): string {
  return query
    .map(([name, value]) => [awsEncode(name), awsEncode(value)] as const)
    .toSorted(([a, x], [b, y]) => byText([a], [b]) || byText([x], [y]))
    .map(([name, value]) => `${name}=${value}`)
    .join('&');
}

/** Everything but `A-Za-z0-9-._~` as percent and upper-case hexadecimal. */
export function awsEncode(text: string): string {
  return encodeURIComponent(text).replace(
    /[!'()*]/g,
    (char) => `%${char.charCodeAt(0).toString(16).toUpperCase()}`,
  );
}

export function scopeText({ time, region, service }: SigningScope): string {
  return `${time.slice(0, 8)}/${region}/${service}/aws4_request`;
}

/** `YYYYMMDD'T'HHMMSS'Z'` of a time. */
export function awsTime(ms: number): string {
  return `${new Date(ms).toISOString().slice(0, 19).replace(/[-:]/g, '')}Z`;
}

/** The milliseconds of such a time; undefined for anything else. */
export function parseAwsTime(text: string): number | undefined {
  if (!/^\d{8}T\d{6}Z$/.test(text)) return undefined;
  const ms = Date.parse(text.replace(/^(....)(..)(..)T(..)(..)(..)Z$/, '$1-$2-$3T$4:$5:$6Z'));
  return Number.isNaN(ms) ? undefined : ms;
}

/** One day's key for one region and service. */
export function signingKey(
  secretAccessKey: string,
  { time, region, service }: SigningScope,
): Buffer {
  const steps = [time.slice(0, 8), region, service, 'aws4_request'];
  return steps.reduce<Buffer>(
    (key, step) => hmac(key, step),
    Buffer.from(`AWS4${secretAccessKey}`),
  );
}

export function hmac(key: Buffer, text: string): Buffer {
  return createHmac('sha256', key).update(text).digest();
}

export function sha256(data: string | Buffer): string {
  return createHash('sha256').update(data).digest('hex');
}

function signedNames(headers: SignedParts['headers']): string {
  return [...new Set(headers.map(([name]) => name.toLowerCase()))].toSorted().join(';');
}

/** RFC 3986, 5.2.4, where asked for; then each segment encoded. */
function canonicalPath({ path, normalize }: SignedParts): string {
  const segments = path.split('/').slice(1);
  return `/${(normalize ? withoutDots(segments) : segments).map(awsEncode).join('/')}`;
}

function withoutDots(segments: readonly string[]): string[] {
  const out: string[] = [];
  for (const segment of segments) {
    if (segment === '..') out.pop();
    else if (segment !== '.' && segment !== '') out.push(segment);
  }
  const open = out.length > 0 && ['', '.', '..'].includes(segments.at(-1) ?? '');
  return open ? [...out, ''] : out;
}

function byText(
  [a]: readonly [string, ...unknown[]],
  [b]: readonly [string, ...unknown[]],
): number {
  if (a === b) return 0;
  return a < b ? -1 : 1;
}
