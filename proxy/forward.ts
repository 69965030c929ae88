import type { IncomingMessage, ServerResponse } from 'node:http';
import { type Duplex, PassThrough, type Readable, type Transform } from 'node:stream';
import type { Dispatcher } from 'undici';
import { OutriderError } from '#core/errors';
import type { Limits } from '#policies';
import { FieldCover } from './covering.ts';
import { downstreamHeaders, type FlatHeaders } from './headers.ts';
import type { OpenExchange } from './open-exchanges.ts';
import { answerTooLarge, requestTooLarge } from './places.ts';
import type { RedactionStream, Redactor } from './redaction.ts';
import { malformed, refused } from './refusal.ts';

/** One request to be sent on: everything is decided, checked and injected. */
export interface Outbound {
  readonly dispatcher: Dispatcher;
  readonly method: string;
  /** Origin form. */
  readonly path: string;
  readonly headers: FlatHeaders;
  /** Set where a credential was injected: it must not come back. */
  readonly redactor: Redactor | undefined;
  /** Whether cookies of the answer are kept back. */
  readonly anonymous: boolean;
  /** For the beginning of the answer, and for silence within one that has a length. */
  readonly timeoutMs: number;
  /** Silence after which an answer without a length, which may be a stream of events, or a WebSocket is cut. */
  readonly idleMs: number;
  /** The caller waits for `100 Continue`. */
  readonly expectsContinue: boolean;
  /** The request's body where it has been read already. */
  readonly body: Buffer | undefined;
  /** What the caller's body goes through on its way; its failure cuts the exchange. */
  readonly transform?: Transform | undefined;
  /** Headers of ours for an answer of success. */
  readonly announce?: readonly (readonly [name: string, value: string])[];
  /** Answers of a lower status are not searched for the secrets: they were never sent to where these come from. */
  readonly redactsFrom?: number;
  /** Told of every byte of a body; returns why the exchange must end, if it must. */
  readonly spend: (bytes: number) => OutriderError | undefined;
  /** Sizes of the bodies; the rest of them has been taken. */
  readonly limits: Limits;
  /** Ends the exchange from outside. */
  readonly open: OpenExchange;
  /**
   * Of a request that asks for a WebSocket: carries it from the other side's 101 to its end. What it throws is the exchange's failure.
   */
  readonly carry?: (answered: Upgraded) => Promise<void>;
}

/** The other side's 101, and its connection from there on. */
export interface Upgraded {
  readonly rawHeaders: readonly string[];
  readonly upstream: Duplex;
  /** To be counted in. */
  readonly exchanged: Exchanged;
}

/** What an exchange came to. Counts are of bodies, as they crossed the caller's connection. */
export interface Exchanged {
  status: number;
  bytesIn: number;
  bytesOut: number;
  upstreamMs: number;
  redactions: number;
}

/** A server that sends more informational answers than this is not waited for. */
const INFORMATIONAL_MAX = 16;

/**
 * Sends the request upstream and streams the answer back, each side at the pace of the other. No redirect is followed, no request repeated.
 * `onAnswered` runs when the answer is complete and before its last byte leaves; where it throws, the answer is cut.
 * @throws {OutriderError} UPSTREAM_UNREACHABLE, UPSTREAM_TIMEOUT, UPSTREAM_LOST, BODY_TOO_LARGE, CANCELLED, or whatever the exchange
 * was cut by; when the answer had begun, it has been cut
 */
export function forward(
  request: IncomingMessage,
  response: ServerResponse,
  outbound: Outbound,
  onAnswered: (exchanged: Exchanged) => void,
): Promise<Exchanged> {
  return new Promise((resolve, reject) => {
    const began = performance.now();
    const exchanged: Exchanged = {
      status: 0,
      bytesIn: 0,
      bytesOut: 0,
      upstreamMs: 0,
      redactions: 0,
    };
    const { requestBytes = Infinity, responseBytes = Infinity } = outbound.limits;
    const sent = (count: number): void => {
      exchanged.bytesIn += count;
      const why = exchanged.bytesIn > requestBytes ? requestTooLarge() : outbound.spend(count);
      if (why) cut(why);
    };
    const body = outbound.body ? undefined : bodyOf(request, sent, outbound.transform);
    let redaction: RedactionStream | undefined;
    let controller: Dispatcher.DispatchController | undefined;
    let informational = 0;
    let received = 0;
    let fields = new FieldCover(undefined);
    let over = false;
    let silence: NodeJS.Timeout | undefined;
    const countRedactions = (): void => {
      // A WebSocket has a redaction of its own, and has counted.
      if (redaction) exchanged.redactions = fields.found + redaction.found;
    };

    const finish = (error?: unknown): void => {
      if (over) return;
      over = true;
      clearTimeout(silence);
      countRedactions();
      response.off('close', onClientGone).off('drain', onDrain);
      body?.destroy();
      if (error === undefined) resolve(exchanged);
      else reject(withExchanged(failureOf(error), exchanged));
    };
    const cut = (why: OutriderError): void => {
      controller?.abort(why);
      finish(why);
    };
    const onSilence = (): void => {
      if (response.writableNeedDrain)
        silence?.refresh(); // it is the caller who is slow
      else cut(tooLate());
    };
    const onClientGone = (): void => cut(new OutriderError('CANCELLED', 'the caller gave up'));
    const onDrain = (): void => controller?.resume();
    // Either may have happened while the name was resolved.
    outbound.open.onCut(cut);
    if (response.destroyed || request.socket.destroyed) onClientGone();
    if (over) return;
    response.on('close', onClientGone).on('drain', onDrain);
    if (outbound.expectsContinue) response.writeContinue();
    if (outbound.body) sent(outbound.body.length);
    if (over) return;

    outbound.dispatcher.dispatch(
      {
        method: outbound.method,
        path: outbound.path,
        headers: outbound.headers,
        body: outbound.body ?? body ?? null,
        ...(outbound.carry ? { upgrade: 'websocket' } : {}),
        headersTimeout: outbound.timeoutMs,
        bodyTimeout: outbound.idleMs,
      },
      {
        onRequestStart(started) {
          controller = started;
          if (over) started.abort(new Error('it is over'));
        },
        onResponseStart(current, status) {
          if (status < 200) {
            informational += 1;
            if (informational > INFORMATIONAL_MAX)
              throw malformed('too many informational answers');
            return;
          }
          exchanged.status = status;
          exchanged.upstreamMs = performance.now() - began;
          const redactor = status < (outbound.redactsFrom ?? 0) ? undefined : outbound.redactor;
          redaction = redactor?.stream();
          fields = new FieldCover(redactor);
          const headers = answerHeaders(current.rawHeaders, { ...outbound, redactor }, fields);
          if (status < 300) for (const pair of outbound.announce ?? []) headers.push(...pair);
          // Of an answer without a body the length says what there would be.
          const bodyless = outbound.method === 'HEAD' || status === 304;
          const length = bodyless ? 0 : lengthOf(headers);
          if (length > responseBytes) throw answerTooLarge();
          if (length > 0) silence = setTimeout(onSilence, outbound.timeoutMs);
          response.writeHead(status, headers);
        },
        onResponseData(current, chunk) {
          received += chunk.length;
          silence?.refresh();
          if (received > responseBytes) throw answerTooLarge();
          const usedUp = outbound.spend(chunk.length);
          if (usedUp) throw usedUp;
          const out = redaction ? redaction.push(chunk) : chunk;
          exchanged.bytesOut += out.length;
          if (out.length > 0 && !response.write(out)) current.pause();
        },
        onResponseEnd() {
          const rest = redaction?.end();
          exchanged.bytesOut += rest?.length ?? 0;
          countRedactions();
          try {
            onAnswered(exchanged);
          } catch (error) {
            response.destroy();
            finish(error);
            return;
          }
          response.off('close', onClientGone);
          response.end(rest);
          finish();
        },
        onRequestUpgrade(current, status, _headers, upstream) {
          exchanged.status = status;
          exchanged.upstreamMs = performance.now() - began;
          response.off('close', onClientGone).off('drain', onDrain);
          const carried = outbound.carry?.({
            rawHeaders: latin1(current.rawHeaders),
            upstream,
            exchanged,
          });
          carried?.then(() => onAnswered(exchanged)).then(() => finish(), finish);
        },
        onResponseError(_current, error) {
          finish(error);
        },
      },
    );
  });
}

/** The same error, which says what the exchange had come to. */
export function withExchanged(error: OutriderError, exchanged: Exchanged): OutriderError {
  return Object.assign(error, { exchanged });
}

/** What an exchange had come to when it failed, where the error says so. */
export function exchangedOf(error: unknown): Partial<Exchanged> {
  if (!(error instanceof Error) || !('exchanged' in error)) return {};
  const { exchanged } = error;
  return typeof exchanged === 'object' && exchanged !== null ? exchanged : {};
}

/**
 * The request's body, counted; undefined where there is none. A stream of its own, since undici destroys what it reads when
 * the upstream fails, and the caller's connection is still needed for the answer.
 */
function bodyOf(
  request: IncomingMessage,
  onBytes: (count: number) => void,
  transform: Transform | undefined,
): Readable | undefined {
  const length = request.headers['content-length'];
  const chunked = request.headers['transfer-encoding'] !== undefined;
  if (!chunked && (length === undefined || length === '0')) return undefined;
  const body = transform ?? new PassThrough();
  request.on('data', (chunk: Buffer) => onBytes(chunk.length));
  request.once('error', (error) => body.destroy(error));
  request.once('close', () => {
    if (!request.complete) body.destroy(new Error('the request was cut'));
  });
  return request.pipe(body);
}

/** @throws {OutriderError} UPSTREAM_LOST: an encoded answer to a request with a credential cannot be searched for it */
function answerHeaders(
  raw: unknown,
  { redactor, anonymous }: Outbound,
  { cover }: FieldCover,
): FlatHeaders {
  const bytes = Array.isArray(raw) ? raw.filter((part) => Buffer.isBuffer(part)) : [];
  const headers = downstreamHeaders(bytes, { anonymous, cover });
  if (redactor && isEncoded(headers))
    throw refused(
      'UPSTREAM_LOST',
      'the other side answered in an encoding that was not asked for',
      'decompression_limit',
    );
  return headers;
}

function latin1(raw: unknown): string[] {
  const parts: unknown[] = Array.isArray(raw) ? raw : [];
  return parts.map((part) => (Buffer.isBuffer(part) ? part.toString('latin1') : ''));
}

function lengthOf(headers: FlatHeaders): number {
  const at = headers.findIndex((text, index) => index % 2 === 0 && /^content-length$/i.test(text));
  return at < 0 ? 0 : Number(headers[at + 1]);
}

/** Whether a body has an encoding that hides what it says. */
export function isEncoded(headers: readonly string[]): boolean {
  return headers.some(
    (text, at) =>
      at % 2 === 0 &&
      text.toLowerCase() === 'content-encoding' &&
      !['', 'identity'].includes((headers[at + 1] ?? '').trim().toLowerCase()),
  );
}

/** What went wrong, as a caller may know it. */
function failureOf(error: unknown): OutriderError {
  if (error instanceof OutriderError) return error;
  const code = error instanceof Error && 'code' in error ? String(error.code) : '';
  if (code === 'UND_ERR_HEADERS_TIMEOUT' || code === 'UND_ERR_BODY_TIMEOUT') return tooLate(error);
  if (
    code === 'UND_ERR_INVALID_ARG' ||
    code === 'UND_ERR_NOT_SUPPORTED' ||
    code === 'UND_ERR_REQ_CONTENT_LENGTH_MISMATCH'
  )
    return refused('INVALID_REQUEST', 'a header of the request cannot be sent on', 'header_value', {
      because: error,
    });
  if (code.startsWith('HPE_') || code.startsWith('ERR_') || /OVERFLOW|MISMATCH/.test(code))
    return refused(
      'UPSTREAM_LOST',
      'the other side did not answer as HTTP wants it',
      'upstream_malformed',
      { because: error },
    );
  return refused('UPSTREAM_LOST', 'the connection to the other side broke', 'upstream_lost', {
    because: error,
  });
}

function tooLate(because?: unknown): OutriderError {
  return refused('UPSTREAM_TIMEOUT', 'the other side did not answer in time', 'upstream_timeout', {
    because,
  });
}
