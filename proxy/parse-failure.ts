import type { OutriderError } from '#core/errors';
import { REASONS, type Reason } from '#policies';
import { refused } from './refusal.ts';

/** llhttp's word for what it could not read, as a reason of the closed list. */
export function unreadable(error: Error): OutriderError {
  const code = 'code' in error ? String(error.code) : '';
  if (code === 'HPE_HEADER_OVERFLOW')
    return refused('HEADER_TOO_LARGE', 'the headers are too large', 'header_too_large');
  if (code === 'ERR_HTTP_REQUEST_TIMEOUT')
    return refused('INVALID_REQUEST', 'the request did not come in time', 'headers_timeout');
  const reason = REASON_OF_PARSER[code] ?? 'request_line_malformed';
  return refused('INVALID_REQUEST', REASONS[reason].text, reason, { because: error });
}

const REASON_OF_PARSER: Readonly<Record<string, Reason>> = {
  HPE_INVALID_TRANSFER_ENCODING: 'te_unsupported',
  HPE_UNEXPECTED_CONTENT_LENGTH: 'cl_and_te',
  HPE_INVALID_CONTENT_LENGTH: 'cl_invalid',
  HPE_INVALID_CHUNK_SIZE: 'chunk_size',
  HPE_INVALID_HEADER_TOKEN: 'header_line',
  HPE_INVALID_VERSION: 'version',
  HPE_INVALID_METHOD: 'method_not_allowed',
  HPE_CR_EXPECTED: 'line_ending',
  HPE_LF_EXPECTED: 'line_ending',
};
