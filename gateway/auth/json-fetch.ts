import { request } from 'undici';
import { isLoopback } from '#core/address';
import { OutriderError } from '#core/errors';

/** The longest that anybody waits for an identity provider. */
export const PROVIDER_TIMEOUT_MS = 30_000;
const ANSWER_MAX_BYTES = 1_048_576;

/**
 * The JSON object that an identity provider answers with. Certificates are checked, redirects are not followed.
 * @throws {OutriderError} UPSTREAM_UNREACHABLE where it gives none within `timeoutMs`
 */
export async function fetchJson(
  url: URL,
  options: {
    readonly timeoutMs?: number;
    readonly headers?: Record<string, string>;
    /** A form to post; absent: GET. */
    readonly form?: URLSearchParams;
  } = {},
): Promise<Readonly<Record<string, unknown>>> {
  const { timeoutMs = PROVIDER_TIMEOUT_MS, headers = {}, form } = options;
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
    let text = '';
    for await (const chunk of body.setEncoding('utf8')) {
      text += String(chunk);
      if (text.length > ANSWER_MAX_BYTES) throw new Error('the answer is too large');
    }
    const parsed: unknown = JSON.parse(text);
    if (statusCode !== 200 || !isRecord(parsed)) throw new Error(`it answered ${statusCode}`);
    return parsed;
  } catch (error) {
    throw new OutriderError('UPSTREAM_UNREACHABLE', 'an identity provider did not answer', {
      cause: error,
    });
  }
}

/**
 * An address of an identity provider. @throws {OutriderError} CONFIG_INVALID where what comes from it could be altered on the way
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

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
