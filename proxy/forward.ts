import { type Duplex, PassThrough, type Readable, type Transform } from 'node:stream';
import { OutriderError } from '#core/errors';
import type { HttpRequest, HttpResponse } from '#core/http-exchange';
import {
  type Http1Controller,
  Http1Error,
  type Http1Handler,
  type Http1Pool,
} from '#core/http1/client';
import type { Limits } from '#policies';
import { FieldCover } from './covering.ts';
import { type DownstreamRules, downstreamText, type FlatHeaders, valuesOf } from './headers.ts';
import type { OpenExchange } from './open-exchanges.ts';
import { answerTooLarge, requestTooLarge } from './places.ts';
import type { RedactionStream, Redactor } from './redaction.ts';
import { malformed, refused } from './refusal.ts';

/** One request to be sent on: everything is decided, checked and injected. */
export interface Outbound {
  readonly pool: Http1Pool;
  readonly method: string;
  /** Origin form. */
  readonly path: string;
  readonly headers: FlatHeaders;
  /** Set where a credential was injected: it must not come back. */
  readonly redactor: Redactor | undefined;
  /** Whether cookies of the answer are kept back. */
  readonly anonymous: boolean;
  /** For silence within an answer that has a length. */
  readonly timeoutMs: number;
  /** Silence after which a WebSocket is cut. */
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
  /** Whose they are. */
  readonly rule: string;
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
/** A body of no more waits for its end, which is with it, to be written with its head. */
const WHOLE_MAX_BYTES = 16_384;

/**
 * Sends the request upstream and streams the answer back, each side at the pace of the other. No redirect is followed, no request repeated.
 * `onAnswered` runs when the answer is complete; its last byte leaves when that calls back, and where it does so with an error the
 * answer is cut.
 * @throws {OutriderError} UPSTREAM_UNREACHABLE, UPSTREAM_TIMEOUT, UPSTREAM_LOST, QUOTA_EXCEEDED, BODY_TOO_LARGE, CANCELLED, or whatever the exchange
 * was cut by; when the answer had begun, it has been cut
 */
export function forward(
  request: HttpRequest,
  response: HttpResponse,
  outbound: Outbound,
  onAnswered: OnAnswered,
): Promise<Exchanged> {
  return new Promise((resolve, reject) => {
    new AnswerRelay(request, response, outbound, { onAnswered, resolve, reject }).send();
  });
}

/** To call `written` once, soon. */
type OnAnswered = (exchanged: Exchanged, written: (error?: OutriderError) => void) => void;

/** Who is told what became of an exchange. */
interface Listener {
  readonly onAnswered: OnAnswered;
  readonly resolve: (exchanged: Exchanged) => void;
  readonly reject: (error: OutriderError) => void;
}

/** Writes the other side's answer to the caller, and lets whichever side fails first end the other. */
class AnswerRelay implements Http1Handler {
  readonly #request: HttpRequest;
  readonly #response: HttpResponse;
  readonly #outbound: Outbound;
  readonly #listener: Listener;
  readonly #began = performance.now();
  readonly #exchanged: Exchanged = {
    status: 0,
    bytesIn: 0,
    bytesOut: 0,
    upstreamMs: 0,
    redactions: 0,
  };
  #controller: Http1Controller | undefined;
  #body: Readable | undefined;
  #redaction: RedactionStream | undefined;
  #fields: FieldCover | undefined;
  #informational = 0;
  #received = 0;
  /** The length that the answer's head gives; 0 where it gives none. */
  #length = 0;
  /** A body that came in one piece, to be written in one piece with its head. */
  #whole: Buffer | undefined;
  /** Until the caller has taken what was written. */
  #paused = false;
  #over = false;

  constructor(
    request: HttpRequest,
    response: HttpResponse,
    outbound: Outbound,
    listener: Listener,
  ) {
    this.#request = request;
    this.#response = response;
    this.#outbound = outbound;
    this.#listener = listener;
  }

  send(): void {
    const { pool, open, method, path, headers } = this.#outbound;
    const response = this.#response;
    const whole = this.#wholeBody();
    if (!whole)
      this.#body = bodyOf(this.#request, (count) => this.#sent(count), this.#outbound.transform);
    // Either may have happened while the name was resolved.
    open.onCut(this.#cut);
    if (response.destroyed || this.#request.socket.destroyed) this.#onClientGone();
    if (this.#over) return;
    response.once('close', this.#onClientGone);
    if (this.#outbound.expectsContinue) response.writeContinue();
    if (whole) this.#sent(whole.length);
    if (this.#over) return;
    const body = whole ?? this.#body ?? null;
    const upgrade = this.#outbound.carry ? 'websocket' : null;
    pool.dispatch({ method, path, headers, body, upgrade }, this);
  }

  /** What need not be streamed. */
  #wholeBody(): Buffer | undefined {
    const { body, transform } = this.#outbound;
    const whole = body ?? (transform ? undefined : this.#request.whole);
    return whole?.length === 0 && !body ? undefined : whole;
  }

  onRequestStart(started: Http1Controller): void {
    this.#controller = started;
    if (this.#over) started.abort(new Error('it is over'));
  }

  onResponseStart(_current: unknown, status: number, raw: readonly string[]): void {
    if (status < 200) {
      this.#informational += 1;
      if (this.#informational > INFORMATIONAL_MAX)
        throw malformed('too many informational answers');
      return;
    }
    const { redactsFrom = 0, announce = [], method, open, timeoutMs } = this.#outbound;
    this.#exchanged.status = status;
    this.#exchanged.upstreamMs = performance.now() - this.#began;
    const redactor = status < redactsFrom ? undefined : this.#outbound.redactor;
    this.#redaction = redactor?.stream();
    this.#fields = new FieldCover(redactor);
    const { anonymous } = this.#outbound;
    const how = { status, anonymous, cover: this.#fields.coverAll };
    const headers = answerHeaders(raw, redactor, how);
    // Of an answer without a body the length says what there would be.
    const bodyless = method === 'HEAD' || status === 304;
    this.#length = bodyless ? 0 : lengthOf(headers);
    if (this.#length > this.#responseMax) throw answerTooLarge(this.#outbound.rule);
    if (this.#length > 0) open.expect(timeoutMs, this.#onSilence);
    const ours = status < 300 ? announce.flat() : [];
    this.#response.writeHead(status, ours.length === 0 ? headers : [...headers, ...ours]);
    process.nextTick(this.#headAlone);
  }

  /** What came with the head goes with it, in one piece; a body that is still to be made keeps no caller waiting for the head. */
  readonly #headAlone = (): void => {
    if (!this.#over) this.#response.flushHeaders();
  };

  onResponseData(current: Http1Controller, chunk: Buffer): void {
    this.#received += chunk.length;
    if (this.#received > this.#responseMax) throw answerTooLarge(this.#outbound.rule);
    const usedUp = this.#outbound.spend(chunk.length);
    if (usedUp) throw usedUp;
    // Then its end comes next, before anything else can happen.
    if (chunk.length === this.#length && chunk.length <= WHOLE_MAX_BYTES) {
      this.#whole = chunk;
      return;
    }
    if (this.#length > 0) this.#outbound.open.expect(this.#outbound.timeoutMs, this.#onSilence);
    const out = this.#redaction ? this.#redaction.push(chunk) : chunk;
    this.#exchanged.bytesOut += out.length;
    if (out.length === 0 || this.#response.write(out)) return;
    current.pause();
    if (!this.#paused) this.#response.once('drain', this.#onDrain);
    this.#paused = true;
  }

  onResponseEnd(): void {
    const response = this.#response;
    const rest = this.#rest();
    this.#exchanged.bytesOut += rest?.length ?? 0;
    this.#close();
    this.#listener.onAnswered(this.#exchanged, (error) => {
      if (error) response.destroy();
      // As text Node joins it to the head, which saves half of what writing two pieces costs.
      else if (this.#whole && rest) response.end(rest.toString('latin1'), 'latin1');
      else response.end(rest);
      this.#tell(error);
    });
  }

  onRequestUpgrade(
    _current: unknown,
    status: number,
    rawHeaders: readonly string[],
    upstream: Duplex,
  ): void {
    const exchanged = this.#exchanged;
    exchanged.status = status;
    exchanged.upstreamMs = performance.now() - this.#began;
    this.#response.off('close', this.#onClientGone);
    this.#outbound.carry?.({ rawHeaders, upstream, exchanged }).then(
      () => this.#listener.onAnswered(exchanged, (error) => this.#finish(error)),
      (error: unknown) => this.#finish(error),
    );
  }

  onResponseError(error: Error): void {
    this.#finish(error);
  }

  get #responseMax(): number {
    return this.#outbound.limits.responseBytes ?? Number.POSITIVE_INFINITY;
  }

  /** What of the answer has not been written yet. */
  #rest(): Buffer | undefined {
    const whole = this.#whole;
    if (!this.#redaction || !whole) return whole ?? this.#redaction?.end();
    const out = this.#redaction.push(whole);
    const rest = this.#redaction.end();
    return rest.length === 0 ? out : Buffer.concat([out, rest]);
  }

  #sent(count: number): void {
    const { limits, rule, spend } = this.#outbound;
    this.#exchanged.bytesIn += count;
    const tooLarge = this.#exchanged.bytesIn > (limits.requestBytes ?? Number.POSITIVE_INFINITY);
    const why = tooLarge ? requestTooLarge(rule) : spend(count);
    if (why) this.#cut(why);
  }

  readonly #cut = (why: OutriderError): void => {
    this.#controller?.abort(why);
    this.#finish(why);
  };

  readonly #onSilence = (): void => {
    const { open, timeoutMs } = this.#outbound;
    // It may be the caller who is slow.
    if (this.#response.writableNeedDrain) open.expect(timeoutMs, this.#onSilence);
    else this.#cut(tooLate());
  };

  /** Also told of the end of an answer that went well, which is over by then. */
  readonly #onClientGone = (): void => {
    if (!this.#over) this.#cut(new OutriderError('CANCELLED', 'the caller gave up'));
  };

  readonly #onDrain = (): void => {
    this.#paused = false;
    this.#controller?.resume();
  };

  #countRedactions(): void {
    // A WebSocket has a redaction of its own, and has counted.
    if (this.#redaction)
      this.#exchanged.redactions = (this.#fields?.found ?? 0) + this.#redaction.found;
  }

  #finish(error?: unknown): void {
    if (this.#over) return;
    this.#close();
    this.#tell(error);
  }

  /** Nothing that happens from here on changes what it came to. */
  #close(): void {
    this.#over = true;
    this.#outbound.open.expectNothing();
    this.#countRedactions();
    this.#body?.destroy();
  }

  #tell(error?: unknown): void {
    if (error === undefined) this.#listener.resolve(this.#exchanged);
    else this.#listener.reject(withExchanged(failureOf(error), this.#exchanged));
  }
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
 * The request's body, counted; undefined where there is none. A stream of its own, since the client destroys what it reads when
 * the upstream fails, and the caller's connection is still needed for the answer.
 */
function bodyOf(
  request: HttpRequest,
  onBytes: (count: number) => void,
  transform: Transform | undefined,
): Readable | undefined {
  if (!hasBody(request)) return undefined;
  const body = transform ?? new PassThrough();
  request.on('data', (chunk: Buffer) => onBytes(chunk.length));
  request.once('error', (error) => body.destroy(error));
  request.once('close', () => {
    if (!request.complete) body.destroy(new Error('the request was cut'));
  });
  return request.pipe(body);
}

/** Whether a body comes with a request, by its head. */
export function hasBody({ headers }: Pick<HttpRequest, 'headers'>): boolean {
  const length = headers['content-length'];
  return headers['transfer-encoding'] !== undefined || (length !== undefined && length !== '0');
}

/** @throws {OutriderError} UPSTREAM_LOST: an encoded answer to a request with a credential cannot be searched for it */
function answerHeaders(
  raw: readonly string[],
  redactor: Redactor | undefined,
  how: DownstreamRules,
): FlatHeaders {
  const headers = downstreamText(raw, how);
  if (redactor && isEncoded(headers))
    throw refused(
      'UPSTREAM_LOST',
      'the other side answered in an encoding that was not asked for',
      'decompression_limit',
    );
  return headers;
}

function lengthOf(headers: FlatHeaders): number {
  return Number(valuesOf(headers, 'content-length')[0] ?? 0);
}

/** Whether a body has an encoding that hides what it says. */
export function isEncoded(headers: readonly string[]): boolean {
  return valuesOf(headers, 'content-encoding').some(
    (value) => !['', 'identity'].includes(value.trim().toLowerCase()),
  );
}

/** What went wrong, as a caller may know it. */
function failureOf(error: unknown): OutriderError {
  if (error instanceof OutriderError) return error;
  const code = error instanceof Http1Error ? error.code : undefined;
  if (code === 'HEADERS_TIMEOUT' || code === 'BODY_TIMEOUT') return tooLate(error);
  if (code === 'BUSY')
    return refused('QUOTA_EXCEEDED', 'too many requests to the other side at once', 'conn_limit', {
      because: error,
      status: 503,
      retryAfterMs: 1_000,
    });
  if (code === 'MALFORMED') return malformed(error);
  if (code === 'ARGUMENT')
    return refused('INVALID_REQUEST', 'a header of the request cannot be sent on', 'header_value', {
      because: error,
    });
  return refused('UPSTREAM_LOST', 'the connection to the other side broke', 'upstream_lost', {
    because: error,
  });
}

function tooLate(because?: unknown): OutriderError {
  return refused('UPSTREAM_TIMEOUT', 'the other side did not answer in time', 'upstream_timeout', {
    because,
  });
}
