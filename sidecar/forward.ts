import { type Http1Controller, Http1Error, type Http1Handler } from '#core/http1/client';
import {
  aliasHost,
  type DatasourceTarget,
  type HostTarget,
  originForm,
  targetAuthority,
} from '#policies';
import type { Binding, Grant } from './binding.ts';
import { type Exchange, type Outcome, outcomeOfAnswer } from './exchange.ts';
import { headerOf } from './framing.ts';
import { forwardedHeaders, returnedHeaders } from './header-fields.ts';
import type { ProgramRequest, ProgramResponse } from './program-side.ts';
import { withRateLimit } from './rate-limit-fields.ts';
import { answerRefusal, Refused } from './refusal.ts';
import { type BodyLimit, drain, requestBody } from './request-body.ts';

/** One allowed request and everything that sending it on needs. */
export interface ForwardCall {
  readonly exchange: Exchange;
  readonly request: ProgramRequest;
  readonly response: ProgramResponse;
  readonly target: HostTarget | DatasourceTarget;
  readonly grant: Grant;
  readonly binding: Binding;
  readonly nowMs: number;
  readonly requestLimit: BodyLimit;
}

/** What writing the answer needs of it. */
export interface AnsweredCall extends Pick<ForwardCall, 'exchange' | 'request' | 'response'> {
  readonly target: Pick<ForwardCall['target'], 'method'>;
  readonly grant: Pick<Grant, 'limits' | 'rule'>;
}

/**
 * Sends a request on to the proxy, written anew from its canonical target, and streams the answer back; the slower side sets
 * the pace. Resolves when the request is on its way: the exchange then ends itself.
 * @throws {Refused} what is found before anything has left
 */
export async function forward(call: ForwardCall): Promise<void> {
  const { exchange, request, response, binding, target, nowMs, requestLimit } = call;
  const token = binding.token(nowMs);
  if (headerOf(request.rawHeaders, 'expect') !== undefined) response.writeContinue();
  const body = await requestBody(request, requestLimit, (count) => {
    exchange.bytesOut += count;
  });
  if (exchange.ended) return;
  exchange.forwarded = true;
  binding.pool.dispatch(
    {
      method: target.method,
      path: `${authority(target).origin}${originForm(target)}`,
      headers: wireHeaders(call, token, body !== null),
      body,
    },
    new AnswerRelay(call),
  );
}

/** The target as the proxy is to read it. */
export function authority(target: HostTarget | DatasourceTarget): {
  origin: string;
  host: string;
} {
  if (target.kind === 'host') {
    const host = targetAuthority(target);
    return { origin: `${target.scheme}://${host}`, host };
  }
  const host = aliasHost(target.type, target.name);
  return { origin: `http://${host}`, host };
}

/** What this hop adds is removed from what the program says: each such header stands exactly once. */
export function wireHeaders(
  { request, target, grant, exchange }: ForwardCall,
  token: string,
  hasBody: boolean,
): string[] {
  const ours = grant.credential !== null || target.kind === 'datasource';
  // The proxy does not read again what is said again at the beginning: what differs from request to request comes last.
  const headers = ['proxy-authorization', `Bearer ${token}`, 'host', authority(target).host];
  headers.push(...forwardedHeaders(request.rawHeaders, ours));
  // What goes on is HTTP/1.1, and the decision is about what the program speaks.
  if (target.protocol === 'http2') headers.push('x-outrider-protocol', 'http2');
  const length = headerOf(request.rawHeaders, 'content-length');
  if (hasBody && length !== undefined) headers.push('content-length', length);
  headers.push('x-request-id', exchange.requestId);
  return headers;
}

const WHOLE_MAX_BYTES = 16_384;

/** Writes the proxy's answer to the program, and lets whichever side fails first end the other. */
export class AnswerRelay implements Http1Handler {
  readonly #exchange: Exchange;
  readonly #request: ProgramRequest;
  readonly #response: ProgramResponse;
  readonly #method: string;
  #controller: Http1Controller | undefined;
  #outcome: Outcome = { verdict: 'allow' };
  readonly #rule: string;
  /** Bytes that the rule still lets in. */
  #left: number;
  /** The length that the answer's head gives. */
  #length = 0;
  /** A body that came in one piece, to be written in one piece with its head. */
  #whole: Buffer | undefined;

  constructor({ exchange, request, response, target, grant }: AnsweredCall) {
    this.#method = target.method;
    this.#rule = grant.rule;
    this.#left = grant.limits.responseBytes ?? Number.POSITIVE_INFINITY;
    this.#exchange = exchange;
    this.#request = request;
    this.#response = response;
    exchange.onCut((refused) => this.#cut(refused));
    response.on('drain', () => this.#controller?.resume());
    response.once('close', () => {
      if (response.writableFinished || exchange.ended) return;
      exchange.refuse(new Refused('client_gone'));
      this.#controller?.abort(new Error('it is over'));
    });
  }

  onRequestStart(controller: Http1Controller): void {
    this.#controller = controller;
    if (this.#exchange.ended) controller.abort(new Error('it is over'));
  }

  onResponseStart(_controller: unknown, status: number, headers: readonly string[]): void {
    // Interim answers are for this hop only.
    if (status < 200) return;
    this.#outcome = outcomeOfAnswer(status, (name) => headerOf(headers, name));
    // Of an answer without a body the length says what there would be.
    const bodyless = this.#method === 'HEAD' || status === 304;
    const length = bodyless ? 0 : Number(headerOf(headers, 'content-length') ?? 0);
    this.#length = length;
    if (length > this.#left) {
      this.#tooLarge();
      return;
    }
    const told = withRateLimit(returnedHeaders(headers), this.#exchange.quota);
    this.#response.writeHead(status, told);
    process.nextTick(this.#headAlone);
  }

  /** What came with the head goes with it, in one piece; a body that is still to be made keeps no program waiting for the head. */
  readonly #headAlone = (): void => {
    if (!this.#exchange.ended) this.#response.flushHeaders();
  };

  onResponseData(controller: Http1Controller, chunk: Buffer): void {
    this.#left -= chunk.length;
    if (this.#left < 0) return this.#tooLarge();
    this.#exchange.bytesIn += chunk.length;
    // Then its end comes next, before anything else can happen.
    if (chunk.length === this.#length && chunk.length <= WHOLE_MAX_BYTES) {
      this.#whole = chunk;
      return;
    }
    if (!this.#response.write(chunk)) controller.pause();
  }

  onResponseEnd(_controller: unknown, trailers: readonly string[]): void {
    if (trailers.length > 0) this.#response.addTrailers(Object.fromEntries(pairsOf(trailers)));
    // As text Node joins it to the head, which saves half of what writing two pieces costs.
    if (this.#whole) this.#response.end(this.#whole.toString('latin1'), 'latin1');
    else this.#response.end();
    this.#exchange.end(this.#outcome);
    drain(this.#request);
  }

  onResponseError(error: Error): void {
    if (this.#exchange.ended) return;
    const refused = linkFailure(error, this.#exchange.targetText);
    this.#exchange.refuse(refused);
    this.#answer(refused, !this.#request.complete);
    drain(this.#request);
  }

  #tooLarge(): void {
    this.#exchange.cut(new Refused('body_too_large', { status: 502, rule: this.#rule }));
  }

  #cut(refused: Refused): void {
    this.#answer(refused, true);
    this.#controller?.abort(new Error('it is over'));
  }

  #answer(refused: Refused, close: boolean): void {
    const sides = { request: this.#request, response: this.#response };
    answerRefusal(sides, refused, this.#exchange.requestId, close);
  }
}

function pairsOf(flat: readonly string[]): [name: string, value: string][] {
  const pairs: [string, string][] = [];
  for (let at = 0; at < flat.length; at += 2) pairs.push([flat[at] ?? '', flat[at + 1] ?? '']);
  return pairs;
}

/** When a proxy that is not there, or a connection to it, is worth another try. */
const PROXY_BACK_MS = 1_000;

/** What went wrong on the hop to the proxy, without its address or words. Where nobody listens, the answer is 503 at once. */
export function linkFailure(error: Error, target: string | undefined): Refused {
  if (error instanceof Refused) return error;
  const details = { cause: error, target };
  const ended = error instanceof Http1Error ? error.code : undefined;
  if (ended === 'HEADERS_TIMEOUT' || ended === 'BODY_TIMEOUT')
    return new Refused('upstream_timeout', details);
  // Streams of HTTP/2 can be more than there are connections.
  if (ended === 'BUSY')
    return new Refused('conn_limit', { ...details, retryAfterMs: PROXY_BACK_MS });
  if (ended === 'MALFORMED') return new Refused('upstream_malformed', details);
  const code = 'code' in error ? String(error.code) : '';
  return /^(?:ECONNREFUSED|ENOENT|EACCES|EAGAIN|ETIMEDOUT)$/.test(code)
    ? new Refused('upstream_unreachable', { ...details, status: 503, retryAfterMs: PROXY_BACK_MS })
    : new Refused('upstream_lost', details);
}
