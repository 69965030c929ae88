/** What a refusal tells a client of S3. */
export interface S3Refusal {
  /** HTTP status of the answer. */
  readonly status: number;
  readonly message: string;
  readonly reason?: string | undefined;
  readonly rule?: string | null | undefined;
  readonly requestId: string;
}

/**
 * Whether a request comes from a client of S3, which reads a refusal only in S3's own form: every one says the digest of what it sends
 * (Amazon S3 API Reference, "Common Request Headers"). `rawHeaders` are names and values in turn.
 */
export function speaksS3(rawHeaders: readonly string[]): boolean {
  for (let at = 0; at < rawHeaders.length; at += 2)
    if (rawHeaders[at]?.toLowerCase() === 'x-amz-content-sha256') return true;
  return false;
}

/** The media type of `s3Error`. */
export const S3_ERROR_TYPE = 'application/xml';

/** A refusal as S3 words one (Amazon S3 API Reference, "REST error responses"), in ASCII; reason and rule are elements of their own, too. */
export function s3Error({ status, message, reason, rule, requestId }: S3Refusal): string {
  const why = [reason, rule == null ? undefined : `rule ${rule}`].filter(Boolean).join(', ');
  const elements = [
    ['Code', codeOf(status)],
    ['Message', why === '' ? message : `${message} (Outrider: ${why})`],
    ['Reason', reason],
    ['Rule', rule],
    ['RequestId', requestId],
  ] as const;
  const inner = elements.map(([name, text]) =>
    text == null ? '' : `<${name}>${escaped(text)}</${name}>`,
  );
  return `<?xml version="1.0" encoding="UTF-8"?>\n<Error>${inner.join('')}</Error>\n`;
}

/** S3's own codes, by which its clients decide whether to try again ("List of error codes"). */
function codeOf(status: number): string {
  return CODES[status] ?? (status < 500 ? 'InvalidRequest' : 'ServiceUnavailable');
}

const CODES: Readonly<Record<number, string>> = {
  401: 'AccessDenied',
  403: 'AccessDenied',
  404: 'NoSuchBucket',
  405: 'MethodNotAllowed',
  408: 'RequestTimeout',
  411: 'MissingContentLength',
  413: 'EntityTooLarge',
  429: 'SlowDown',
  500: 'InternalError',
};

/** Nothing of it is markup, and a character of it is a byte. */
function escaped(text: string): string {
  return text.replace(/[^\x20-\x7e]|[<>&"']/gu, (one) =>
    NO_CHARACTER.test(one) ? '?' : `&#${one.codePointAt(0)};`,
  );
}

/** What XML 1.0 cannot say, not even by number. */
const NO_CHARACTER = /[^\t\n\r\x20-\ud7ff\ue000-\ufffd\u{10000}-\u{10ffff}]/u;
