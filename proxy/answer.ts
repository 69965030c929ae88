import type { ServerHttp2Stream } from 'node:http2';
import type { Duplex } from 'node:stream';
import { type ErrorCode, type OutriderError, publicError } from '#core/errors';
import { resetCode, trailersOnly } from '#core/grpc-status';
import { answerJson, answerText } from '#core/http';
import type { HttpRequest, HttpResponse } from '#core/http-exchange';
import { discardRest, StreamReset } from '#core/http2-relay';
import { resetStream } from '#core/http2-reset';
import { STATUS_CODES } from '#core/node-http';
import { S3_ERROR_TYPE, s3Error, speaksS3 } from '#core/s3-error';
import { REASONS, type Reason, rateLimitFields } from '#policies';
import { type Denial, denialOf, ownStatusOf, quotaOf, refused } from './refusal.ts';

/** What a canonicalisation that failed means to the caller. */
export function refusedTarget(reason: Reason): OutriderError {
  const code =
    CODE_OF_REASON[reason] ??
    (REASONS[reason].status === 400 ? 'INVALID_REQUEST' : 'EGRESS_DENIED');
  return refused(code, REASONS[reason].text, reason);
}

const CODE_OF_REASON: Readonly<Partial<Record<Reason, ErrorCode>>> = {
  datasource_missing: 'DATASOURCE_MISSING',
  alias_unknown: 'DATASOURCE_UNKNOWN',
  method_not_allowed: 'METHOD_NOT_ALLOWED',
};

/** The status of an answer: its own, or a denial has that of its reason, every other failure that of its code. */
export function statusOf(error: OutriderError): number {
  const own = ownStatusOf(error);
  if (own !== undefined) return own;
  const denial = error.code === 'EGRESS_DENIED' ? denialOf(error) : undefined;
  return denial ? REASONS[denial.reason].status : error.failure.http;
}

/** Answers a failure as JSON, to a client of S3 as S3 would, or cuts an answer that had begun. */
export function answerRefusal(
  request: HttpRequest,
  response: HttpResponse,
  error: OutriderError,
  requestId: string,
): void {
  if (response.headersSent) {
    response.destroy();
    return;
  }
  const { body, headers } = refusal(error, requestId);
  // Whoever is still sending a body is not read to its end.
  if (!request.complete) headers['connection'] = 'close';
  const status = statusOf(error);
  if (speaksS3(request.rawHeaders)) {
    const text = s3Error({ status, ...body.error });
    answerText(response, status, { type: S3_ERROR_TYPE, text }, headers);
  } else answerJson(response, status, body, headers);
}

/** As `answerRefusal`, for a CONNECT, whose socket node:http has let go. */
export function answerConnectRefusal(
  socket: Duplex,
  error: OutriderError,
  requestId: string,
): void {
  const { body, headers } = refusal(error, requestId);
  const status = statusOf(error);
  const text = `${JSON.stringify(body)}\n`;
  const lines = [
    `HTTP/1.1 ${status} ${STATUS_CODES[status] ?? 'Refused'}`,
    'content-type: application/json',
    `content-length: ${Buffer.byteLength(text)}`,
    ...Object.entries(headers).map(([name, value]) => `${name}: ${value}`),
    'connection: close',
  ];
  socket.end(`${lines.join('\r\n')}\r\n\r\n${text}`);
}

/**
 * As `answerRefusal`, for a stream of HTTP/2; of gRPC it is an answer of trailers alone, whose status a client shows. Where the answer has
 * begun, or the other side reset it, the stream is reset with the code that comes nearest.
 */
export function answerStreamRefusal(
  stream: ServerHttp2Stream,
  error: OutriderError,
  requestId: string,
  grpc: boolean,
): void {
  if (stream.closed || stream.destroyed) return;
  const reset = resetOf(error);
  if (stream.headersSent || (reset?.side === 'answerer' && reset.code !== 0)) {
    resetStream(stream, reset?.code || resetCode(error.failure.grpc));
    return;
  }
  const { headers, body } = refusal(error, requestId);
  const ours = Object.entries(headers).flat();
  const { message } = publicError(error).error;
  if (grpc) stream.respond(trailersOnly(error.failure.grpc, message, ours), { endStream: true });
  else {
    const head = [':status', String(statusOf(error)), 'content-type', 'application/json'];
    stream.respond([...head, ...ours]);
    stream.end(`${JSON.stringify(body)}\n`);
  }
  discardRest(stream);
}

/** The reset in which an exchange ended, somewhere beneath its error. */
function resetOf(error: unknown): StreamReset | undefined {
  for (let at = error; at instanceof Error; at = at.cause) if (at instanceof StreamReset) return at;
  return undefined;
}

interface RefusalBody {
  readonly error: ReturnType<typeof publicError>['error'] &
    Partial<Denial> & { readonly requestId: string };
}

function refusal(
  error: OutriderError,
  requestId: string,
): { body: RefusalBody; headers: Record<string, string> } {
  const denial = denialOf(error);
  const shown = publicError(error);
  const quota = quotaOf(error);
  const headers: Record<string, string> = {
    'x-outrider-error': error.code,
    'x-request-id': requestId,
    ...(denial ? { 'x-outrider-reason': denial.reason } : {}),
    ...(denial?.rule ? { 'x-outrider-rule': denial.rule } : {}),
    ...(error.retryAfterMs === undefined
      ? {}
      : { 'retry-after': String(Math.max(1, Math.ceil(error.retryAfterMs / 1_000))) }),
    ...(quota && fieldsOf(rateLimitFields(quota))),
  };
  return { body: { error: { ...shown.error, ...denial, requestId } }, headers };
}

/** Of names and values in turns. */
function fieldsOf(fields: readonly string[]): Record<string, string> {
  const named: Record<string, string> = {};
  for (let at = 0; at + 1 < fields.length; at += 2) named[fields[at] ?? ''] = fields[at + 1] ?? '';
  return named;
}
