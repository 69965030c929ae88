import { request } from 'undici';
import { isLoopback } from './address.ts';
import { OutriderError } from './errors.ts';
import { isRecord } from './is-record.ts';

/** How much of an identity provider's time and words is taken, and what it is sent. */
export interface ProviderRequest {
  readonly timeoutMs: number;
  /** Of the answer's body. */
  readonly maxBytes: number;
  readonly headers?: Readonly<Record<string, string>>;
  /** A form to post; absent: GET. */
  readonly form?: URLSearchParams;
}

/**
 * The JSON object that an identity provider answers with. Certificates are checked, redirects are not followed.
 * @throws {OutriderError} UPSTREAM_UNREACHABLE where it gives none of at most `maxBytes` within `timeoutMs`
 */
export async function fetchJson(
  url: URL,
  { timeoutMs, maxBytes, headers = {}, form }: ProviderRequest,
): Promise<Readonly<Record<string, unknown>>> {
  try {
    const { statusCode, body } = await request(url, {
      method: form ? 'POST' : 'GET',
      headers: {
        accept: 'application/json',
        ...(form ? { 'content-type': 'application/x-www-form-urlencoded' } : {}),
        ...headers,
      },
      body: form ? form.toString() : null,
      headersTimeout: timeoutMs,
      bodyTimeout: timeoutMs,
      signal: AbortSignal.timeout(timeoutMs),
    });
    const text = await textOf(body, maxBytes);
    if (statusCode !== 200) throw new Error(`it answered ${statusCode}`);
    const parsed: unknown = JSON.parse(text);
    if (!isRecord(parsed)) throw new Error('it answered with no JSON object');
    return parsed;
  } catch (error) {
    throw new OutriderError('UPSTREAM_UNREACHABLE', 'an identity provider did not answer', {
      cause: error,
    });
  }
}

/**
 * An address of an identity provider; `what` names it in the message.
 * @throws {OutriderError} CONFIG_INVALID where what comes from it could be altered on the way
 */
export function providerUrl(text: string, what: string): URL {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  const host = url?.hostname.replace(/^\[|\]$/g, '') ?? '';
  const plain = url?.protocol === 'http:' && isLoopback({ kind: 'tcp', host, port: 0 });
  if (url && (url.protocol === 'https:' || plain)) return url;
  throw new OutriderError(
    'CONFIG_INVALID',
    `${what} must be an https URL (http on loopback only): whoever alters it on the way is everybody`,
  );
}

/** Where an issuer says of itself where its keys are (OpenID Connect Discovery 1.0, section 4). @throws {OutriderError} CONFIG_INVALID */
export function discoveryUrl(issuer: string): URL {
  return providerUrl(
    `${issuer.replace(/\/$/, '')}/.well-known/openid-configuration`,
    `the issuer ${issuer}, which has no jwks,`,
  );
}

/** Leaving the loop ends the connection, so that no more comes than is wanted. */
async function textOf(body: AsyncIterable<Uint8Array>, maxBytes: number): Promise<string> {
  const pieces: Uint8Array[] = [];
  let size = 0;
  for await (const piece of body) {
    size += piece.length;
    if (size > maxBytes) throw new Error(`the answer is larger than ${maxBytes} bytes`);
    pieces.push(piece);
  }
  return Buffer.concat(pieces).toString('utf8');
}
