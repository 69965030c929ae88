import { type ErrorCode, OutriderError } from '#core/errors';
import { resetCode, trailersOnly } from '#core/grpc-status';
import { STATUS_CODES } from '#core/node-http';
import { S3_ERROR_TYPE, s3Error, speaksS3 } from '#core/s3-error';
import { type NamedQuota, type Near, REASONS, type Reason, rateLimitFields } from '#policies';
import type { ProgramRequest, ProgramResponse } from './program-side.ts';

/** What a refusal may say besides its reason. */
export interface RefusalDetails {
  /** The canonical target; shown to the program. */
  readonly target?: string | undefined;
  readonly rule?: string | null | undefined;
  /** What is allowed near it, asked for where it is told; shown to the program. */
  readonly allowed?: (() => Near) | undefined;
  /** In place of the reason's own HTTP status. */
  readonly status?: number | undefined;
  readonly cause?: unknown;
  /** Seconds are rounded up; sent as `Retry-After`. */
  readonly retryAfterMs?: number | undefined;
  readonly quota?: NamedQuota | undefined;
}

/**
 * A request that goes no further, for one reason of the closed list. Thrown by the steps of the door and turned into an answer
 * and a record at its edge. The message is for the program: it holds no secret or address of the mesh.
 */
export class Refused extends OutriderError {
  readonly reason: Reason;
  readonly rule: string | null;
  readonly status: number;
  readonly quota: NamedQuota | undefined;
  readonly allowed: (() => Near) | undefined;

  constructor(reason: Reason, details: RefusalDetails = {}) {
    const { text, status } = REASONS[reason];
    // A refusal is an answer and no fault of ours: a stack would say nothing, and takes as long as all the rest of it.
    const frames = Error.stackTraceLimit;
    Error.stackTraceLimit = 0;
    super(codeOf(reason), details.target === undefined ? text : `${details.target}: ${text}`, {
      cause: details.cause,
      ...(details.retryAfterMs === undefined ? {} : { retryAfterMs: details.retryAfterMs }),
    });
    Error.stackTraceLimit = frames;
    this.reason = reason;
    this.rule = details.rule ?? null;
    this.status = details.status ?? status;
    this.quota = details.quota;
    this.allowed = details.allowed;
  }
}

/** Any thrown value as a refusal: what is not one is a fault of ours. */
export function toRefused(thrown: unknown): Refused {
  return thrown instanceof Refused ? thrown : new Refused('internal', { cause: thrown });
}

/** A request and the answer to it. */
interface Answered {
  readonly request: Pick<ProgramRequest, 'rawHeaders'>;
  readonly response: ProgramResponse;
}

/** Answers a refusal; `close` ends the connection after it. An answer that has begun cannot be taken back: it is cut. */
export function answerRefusal(
  { request, response }: Answered,
  refused: Refused,
  requestId: string,
  close: boolean,
): void {
  if (response.headersSent) {
    if (response.reset) response.reset(resetCode(refused.failure.grpc));
    else response.destroy();
    return;
  }
  const { headers, body, ours } = render(refused, requestId, speaksS3(request.rawHeaders));
  if (response.grpc === true && response.writeOnly) {
    const message = `${refused.message} (${refused.reason})`;
    response.writeOnly(trailersOnly(refused.failure.grpc, message, ours));
    return;
  }
  if (close) headers.push('connection', 'close');
  if ('statusMessage' in response) response.statusMessage = phraseOf(refused); // HTTP/2 has none
  response.writeHead(refused.status, headers);
  response.end(body);
}

/** The same answer as bytes, for a connection that no `ServerResponse` stands for; always the last on it. */
export function refusalBytes(refused: Refused, requestId: string): Buffer {
  const { headers, body } = render(refused, requestId, false);
  headers.push('connection', 'close');
  const lines = [`HTTP/1.1 ${refused.status} ${phraseOf(refused)}`];
  for (let at = 0; at < headers.length; at += 2) lines.push(`${headers[at]}: ${headers[at + 1]}`);
  return Buffer.from(`${lines.join('\r\n')}\r\n\r\n${body}`, 'latin1');
}

/** The status line is all that git, npm, pip, apt, Go and others show of a refusal. */
function phraseOf({ status, reason }: Refused): string {
  return `${STATUS_CODES[status] ?? 'Refused'} (Outrider: ${reason})`;
}

function render(
  refused: Refused,
  requestId: string,
  toS3: boolean,
): { headers: string[]; ours: string[]; body: string } {
  const { code, message, status, reason, rule, retryAfterMs, quota } = refused;
  const type = toS3 ? S3_ERROR_TYPE : 'application/json';
  const body = toS3
    ? s3Error({ status, message, reason, rule, requestId })
    : jsonBody(refused, requestId);
  const headers = ['content-type', type, 'content-length', String(body.length)];
  const ours = ['cache-control', 'no-store', 'x-outrider-error', code, 'x-outrider-reason', reason];
  if (rule !== null) ours.push('x-outrider-rule', rule);
  if (retryAfterMs !== undefined)
    ours.push('retry-after', String(Math.max(1, Math.ceil(retryAfterMs / 1000))));
  if (quota) ours.push(...rateLimitFields(quota));
  return { headers: [...headers, ...ours], ours, body };
}

function jsonBody(refused: Refused, requestId: string): string {
  const { code, message, reason, rule } = refused;
  const allowed = refused.allowed?.();
  return `${asciiJson({ error: { code, message, reason, rule, requestId, allowed } })}\n`;
}

/** A character of it is a byte. */
function asciiJson(value: unknown): string {
  return JSON.stringify(value).replace(
    /[^\x20-\x7e]/g,
    (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
}

const CODE_BY_REASON: Partial<Record<Reason, ErrorCode>> = {
  datasource_missing: 'DATASOURCE_MISSING',
  alias_unknown: 'DATASOURCE_UNKNOWN',
  audit_backpressure: 'AUDIT_UNAVAILABLE',
  policy_mismatch: 'POLICY_MISMATCH',
  upstream_timeout: 'UPSTREAM_TIMEOUT',
  upstream_unreachable: 'UPSTREAM_UNREACHABLE',
  upstream_lost: 'UPSTREAM_LOST',
  upstream_malformed: 'UPSTREAM_LOST',
  client_gone: 'CANCELLED',
  draining: 'DRAINING',
  internal: 'INTERNAL',
};

const CODE_BY_STATUS: Readonly<Record<number, ErrorCode>> = {
  400: 'INVALID_REQUEST',
  401: 'UNAUTHENTICATED',
  405: 'METHOD_NOT_ALLOWED',
  408: 'DEADLINE_EXCEEDED',
  413: 'BODY_TOO_LARGE',
  429: 'RATE_LIMITED',
  431: 'HEADER_TOO_LARGE',
  503: 'QUOTA_EXCEEDED',
};

function codeOf(reason: Reason): ErrorCode {
  return CODE_BY_REASON[reason] ?? CODE_BY_STATUS[REASONS[reason].status] ?? 'EGRESS_DENIED';
}
