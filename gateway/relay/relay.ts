import type { IncomingHttpHeaders } from 'node:http';
import { type ErrorCode, OutriderError, toOutriderError } from '#core/errors';
import type { HttpRequest, HttpResponse } from '#core/http-exchange';
import { type Http1Controller, Http1Error, type Http1Handler } from '#core/http1/client';
import type { Repeat } from '../recovery/may-repeat.ts';
import type { SessionPlace } from '../recovery/moves/store.ts';
import type { Recovery } from '../recovery/recovery.ts';
import { ANY_SERVER } from '../sessions/sealed-id.ts';
import type { Session } from '../sessions/sessions.ts';
import type { Balancer, Visit } from './balancer.ts';
import type { ExchangeEnd } from './circuit.ts';
import { AsEvent, EventAnswer } from './event-answer.ts';
import { headersOf, requestHeaders, responseHeaders } from './headers.ts';
import { EVENTS_TYPE, JSON_TYPE, mediaTypeOf } from './media-type.ts';
import type { MessageId } from './protocol-error.ts';
import type { Rewrite } from './rewrite.ts';
import type { Upstream } from './upstream.ts';

/** A request that has passed every check. */
export interface Admitted {
  readonly request: HttpRequest;
  readonly response: HttpResponse;
  readonly body: Buffer;
  readonly requestId: string;
  /** For servers that are ours; others learn nothing of the caller. */
  readonly assertion: string | undefined;
  /** Binds the request to the server that has it, if one has. */
  readonly session: Session | undefined;
  /**
   * The client's id for a session that a server has begun, if this request is to begin one; absent where none can begin.
   * @throws {OutriderError} where it cannot be carried
   */
  readonly begin: ((upstream: Upstream, upstreamId: string) => string | undefined) | undefined;
  /** Whether it may be sent again where it is unknown if the first time took effect. */
  readonly again: Repeat;
  /** The ids of the requests in it, each of which is owed an answer. */
  readonly asked: readonly MessageId[];
  /** Changes the answer's body, by its headers; returns undefined where it is to pass as it is. */
  readonly rewrite: ((headers: IncomingHttpHeaders) => Rewrite | undefined) | undefined;
  /** Sees each piece of the answer as the server sends it, as latin-1. */
  readonly watch: ((piece: string) => void) | undefined;
  /** Told how long it was at a server that was lost with it. */
  readonly lost: (upstreamMs: number) => void;
}

/** What came of it. */
export interface Relayed {
  /** The server's; undefined where the client had gone before. */
  readonly status: number | undefined;
  /** From the request's first byte at the server to the end of its answer. */
  readonly upstreamMs: number;
  /** `whole`: the server sent all of its answer; `broken`: it did not; `left`: the client did not wait for it. */
  readonly ended: 'whole' | 'broken' | 'left';
  /** Whether another server had to be tried. */
  readonly failedOver: boolean;
}

/**
 * Sends an admitted request to one server and its answer back, byte for byte and as it comes. Resolves when the answer is
 * complete or the client has gone; the client going away ends the request at the server at once.
 * Nothing is sent twice, unless the operator calls it safe: another server is tried, once, only where not a byte had reached the first. A
 * session stays at its server, unless `recovery` finds that gone; then the request follows it to its new place, where it may be sent again.
 * Where an event stream has begun, the client may be told of a failure as its last event: then the response has ended when this rejects.
 * @throws {OutriderError} SESSION_NOT_FOUND | UPSTREAM_UNREACHABLE | UPSTREAM_UNAVAILABLE | UPSTREAM_LOST, before any answer
 */
export async function relay(
  admitted: Admitted,
  balancer: Balancer,
  recovery?: Recovery,
): Promise<Relayed> {
  const { session, response, asked } = admitted;
  const events = new EventAnswer(response, asked);
  try {
    return await (session && session.backend !== ANY_SERVER
      ? relayInSession(admitted, events, session, balancer, recovery)
      : relayAnywhere(admitted, events, balancer));
  } catch (error) {
    events.fail(toOutriderError(error));
    throw error;
  }
}

async function relayAnywhere(
  admitted: Admitted,
  events: EventAnswer,
  balancer: Balancer,
): Promise<Relayed> {
  const began = admitted.session !== undefined;
  const first = balancer.pick([], began);
  if (!first) throw unfit(balancer);
  const tried = await exchange(admitted, events, first, balancer);
  if ('status' in tried) return tried;
  const again = !tried.final || (isLost(tried) && admitted.again === 'call' && events.isBlank);
  const second = again ? balancer.pick([first], began) : undefined;
  if (!second) throw tried.error;
  return answered(await exchange(admitted, events, second, balancer));
}

async function relayInSession(
  admitted: Admitted,
  events: EventAnswer,
  session: Session,
  balancer: Balancer,
  recovery: Recovery | undefined,
): Promise<Relayed> {
  const place = recovery?.placeOf(session) ?? session;
  const upstream = balancer.find(place.backend);
  const restMs = upstream && balancer.restMs(upstream);
  if (upstream && restMs) {
    // It may have been killed, and its sessions are not to wait for it then.
    if (!recovery || !(await recovery.isGone(upstream))) throw unavailable(restMs);
  } else if (upstream) {
    const tried = await exchange(admitted, events, upstream, balancer, place);
    if ('status' in tried) return tried;
    const lost = isLost(tried);
    if (!recovery || (tried.final && !lost)) throw tried.error;
    if (lost && !(await recovery.isGone(upstream))) throw tried.error;
    if (lost && (admitted.again === 'never' || !events.isBlank)) {
      // This call is lost; the next one is to find the session.
      recovery.recover(session, place, versionOf(admitted)).catch(() => {});
      throw tried.error;
    }
  }
  // A client that is told so begins a new session, which has a server; waiting for one that is down would not help it.
  if (!recovery)
    throw new OutriderError('SESSION_NOT_FOUND', 'there is no such session: begin a new one');
  const next = await recovery.recover(session, place, versionOf(admitted));
  const other = balancer.find(next.backend);
  if (!other) throw unreachable('the server that took the session is gone as well');
  return answered(await exchange(admitted, events, other, balancer, next));
}

/** The revision that was agreed on in the session, which its client says with each request since 2025-06-18. */
function versionOf({ request }: Admitted): string | undefined {
  const said = request.headers['mcp-protocol-version'];
  return typeof said === 'string' ? said : undefined;
}

function isLost({ error }: ExchangeFailure): boolean {
  return error.code === 'UPSTREAM_LOST';
}

function answered(result: Relayed | ExchangeFailure): Relayed {
  if ('error' in result) throw result.error;
  return { ...result, failedOver: true };
}

/** An exchange that ended without an answer, or in the middle of an event stream that may go on. `final`: the request must not go to another server. */
interface ExchangeFailure {
  readonly final: boolean;
  readonly error: OutriderError;
  readonly end: ExchangeEnd | undefined;
}

/** One request at one server. */
function exchange(
  admitted: Admitted,
  events: EventAnswer,
  upstream: Upstream,
  balancer: Balancer,
  place?: SessionPlace,
): Promise<Relayed | ExchangeFailure> {
  const { request, body, requestId, assertion, session } = admitted;
  return new Promise((resolve) => {
    const asked = new Exchange(admitted, events, upstream, place, balancer, resolve);
    upstream.pool.dispatch(
      {
        method: request.method ?? 'POST',
        path: upstream.path,
        headers: requestHeaders(request.headers, {
          assertion,
          requestId,
          sessionId: (place ?? session)?.upstreamId,
          host: upstream.host,
          contentType: body.length > 0 ? JSON_TYPE : undefined,
        }),
        body: body.length > 0 ? body : null,
      },
      asked,
    );
  });
}

/** Answers of a server, or of what stands before it, that cannot serve. */
const FAILING = new Set([502, 503, 504]);

/** An answer of one piece that is not longer goes out as text, in one write with its headers: Node copies both into one block. */
const ONE_PIECE_BYTES = 8_192;

/** Hears of one request. */
class Exchange implements Http1Handler {
  readonly #admitted: Admitted;
  readonly #response: HttpResponse;
  readonly #events: EventAnswer;
  readonly #upstream: Upstream;
  readonly #place: SessionPlace | undefined;
  readonly #balancer: Balancer;
  readonly #settle: (result: Relayed | ExchangeFailure) => void;
  readonly #begunAt = performance.now();
  readonly #visit: Visit;
  #controller: Http1Controller | undefined;
  #rewrite: Rewrite | undefined;
  /** Where it is JSON, in an event stream that another server had begun. */
  #asEvent: AsEvent | undefined;
  #status: number | undefined;
  /** Of an answer that passes as it is, where its server gave one. */
  #length: number | undefined;
  /** Whether anything has followed the headers. */
  #begun = false;
  /** Until the client has taken what was written. */
  #isPaused = false;
  /** Why we ended it, where we did. */
  #ended: OutriderError | undefined;

  constructor(
    admitted: Admitted,
    events: EventAnswer,
    upstream: Upstream,
    place: SessionPlace | undefined,
    balancer: Balancer,
    settle: (result: Relayed | ExchangeFailure) => void,
  ) {
    this.#admitted = admitted;
    this.#response = admitted.response;
    this.#events = events;
    this.#upstream = upstream;
    this.#place = place;
    this.#balancer = balancer;
    this.#settle = settle;
    this.#visit = balancer.begin(upstream, this.#onServerGone);
    this.#response.on('close', this.#onClientGone);
  }

  onRequestStart(controller: Http1Controller): void {
    this.#controller = controller;
    if (this.#response.destroyed) this.#onClientGone();
  }

  onResponseStart(controller: Http1Controller, status: number, fields: readonly string[]): void {
    if (status < 200) return;
    const headers = headersOf(fields);
    this.#visit.heard(!FAILING.has(status));
    // So ours say that they are about to stop; with others it is a habit.
    if (this.#admitted.assertion !== undefined && headers['connection'] === 'close')
      this.#balancer.leaves(this.#upstream, true);
    // It was the gateway's word that was refused, not the client's token; asking the client for another would loop.
    if (status === 401) this.#ended = distrusted();
    else if (this.#events.isOpen) this.#goOn(status, headers);
    else this.#answer(status, headers);
    if (this.#ended) controller.abort(this.#ended);
  }

  #answer(status: number, headers: IncomingHttpHeaders): void {
    const { requestId, rewrite } = this.#admitted;
    let sessionId: string | undefined;
    try {
      sessionId = this.#sessionIdFor(status, headers['mcp-session-id']);
      this.#rewrite = rewrite?.(headers);
    } catch (error) {
      this.#ended =
        error instanceof OutriderError
          ? error
          : new OutriderError('INTERNAL', 'internal error', { cause: error });
      return;
    }
    this.#status = status;
    if (!this.#rewrite) this.#length = Number(headers['content-length']);
    const isRewritten = this.#rewrite !== undefined;
    const list = responseHeaders(headers, { requestId, sessionId }, isRewritten);
    list.push('x-content-type-options', 'nosniff'); // as our own answers say
    this.#response.writeHead(status, list);
    if (this.#canGoOn(status, headers)) this.#events.open();
    // The first event may be minutes away, and a client waits for the headers to know that its stream is open. What came with the
    // headers goes with them: that is one packet, and one call of the system, for most answers.
    if (isEvents(headers))
      process.nextTick(() => {
        if (!this.#begun && !this.#response.destroyed) this.#response.flushHeaders();
      });
  }

  /** Whether it is a stream of events to which we can add one: the answer of a GET its client asks for again. */
  #canGoOn(status: number, headers: IncomingHttpHeaders): boolean {
    const { request, asked } = this.#admitted;
    return (
      request.method === 'POST' &&
      asked.length > 0 &&
      status < 300 &&
      isEvents(headers) &&
      headers['content-length'] === undefined &&
      (headers['content-encoding'] ?? 'identity') === 'identity'
    );
  }

  /** The answer of another server, in the event stream that the first had begun. */
  #goOn(status: number, headers: IncomingHttpHeaders): void {
    const isJson = mediaTypeOf(headers) === JSON_TYPE;
    if (status >= 300 || !(isJson || isEvents(headers))) {
      this.#ended = new OutriderError('UPSTREAM_LOST', LOST);
      return;
    }
    this.#status = status;
    this.#begun = true;
    this.#rewrite = this.#admitted.rewrite?.(headers);
    this.#write(Buffer.from(this.#events.joint));
    if (isJson) this.#asEvent = new AsEvent();
  }

  /** What the client is told: its own id again, or that of a session that has just begun. Never the server's. */
  #sessionIdFor(status: number, upstreamId: string | string[] | undefined): string | undefined {
    const { session, begin } = this.#admitted;
    if (typeof upstreamId !== 'string') return undefined;
    if (session) return upstreamId === (this.#place ?? session).upstreamId ? session.id : undefined;
    return status < 300 ? begin?.(this.#upstream, upstreamId) : undefined;
  }

  onResponseData(controller: Http1Controller, chunk: Buffer): void {
    const { watch } = this.#admitted;
    this.#visit.heard(false);
    const text = watch || this.#isWhole(chunk) ? chunk.toString('latin1') : '';
    watch?.(text);
    if (this.#isWhole(chunk)) {
      this.#response.end(text, 'latin1');
      return;
    }
    if (this.#write(this.#rewrite ? this.#rewrite.piece(chunk) : chunk) || this.#isPaused) return;
    this.#isPaused = true;
    controller.pause();
    this.#response.once('drain', () => {
      this.#isPaused = false;
      controller.resume();
    });
  }

  /** Whether there may be more. */
  #write(bytes: Buffer): boolean {
    const piece = this.#asEvent ? this.#asEvent.piece(bytes) : bytes;
    if (piece.length === 0) return true;
    this.#begun = true;
    if (this.#events.isOpen) this.#events.see(piece.toString('latin1'));
    return this.#response.write(piece);
  }

  /** Whether it is the whole of a small answer that passes as it is, by the length that the server gave. */
  #isWhole(piece: Buffer): boolean {
    return !this.#begun && piece.length === this.#length && piece.length <= ONE_PIECE_BYTES;
  }

  onResponseEnd(): void {
    this.#begun = true;
    const rest = this.#rewrite?.rest();
    if (this.#asEvent) {
      this.#write(rest ?? Buffer.alloc(0));
      this.#response.end(this.#asEvent.rest());
    } else if (!this.#response.writableEnded) this.#response.end(rest);
    this.#answered('whole', FAILING.has(this.#status ?? 0) ? 'failed' : 'answered');
  }

  onResponseError(cause: Error): void {
    if (this.#response.destroyed) this.#answered('left', undefined);
    else if (this.#response.headersSent && !this.#events.owes) {
      // The rest will not come: a cut connection says so, an orderly end would not.
      this.#response.destroy();
      // What we found wrong with it is nobody else's to tell.
      if (cause instanceof OutriderError)
        this.#done({ final: true, error: cause, end: 'failed' }, 'failed');
      else this.#answered(this.#events.isAnswered ? 'whole' : 'broken', 'failed');
    } else {
      const failure = this.#failure(cause);
      if (isLost(failure)) this.#admitted.lost(performance.now() - this.#begunAt);
      this.#done(failure, failure.end);
    }
  }

  #answered(ended: Relayed['ended'], end: ExchangeEnd | undefined): void {
    const upstreamMs = performance.now() - this.#begunAt;
    this.#done({ status: this.#status, ended, upstreamMs, failedOver: false }, end);
  }

  #failure(cause: Error): ExchangeFailure {
    if (cause instanceof Http1Error && cause.code === 'ARGUMENT')
      return refused('INVALID_REQUEST', 'a header of the request cannot be passed on', cause);
    if (this.#ended) return { final: true, error: this.#ended, end: 'failed' };
    if (cause instanceof OutriderError) return { final: true, error: cause, end: 'failed' };
    if (this.#controller === undefined)
      return { final: false, error: unreachable(cause), end: 'unreachable' };
    return { ...refused('UPSTREAM_LOST', LOST, cause), end: 'failed' };
  }

  readonly #onClientGone = (): void => {
    if (this.#response.writableFinished) return;
    // Which does nothing to what is over: to listen on costs less than to stop listening.
    this.#controller?.abort(new Error('the client went away'));
    // Before the connection stands there is nothing to abort yet: onRequestStart will find the client gone.
  };

  /** It has stopped answering anything, also this. */
  readonly #onServerGone = (): void => {
    this.#controller?.abort(new Error('nothing came from the server in three checks'));
  };

  #done(result: Relayed | ExchangeFailure, end: ExchangeEnd | undefined): void {
    this.#visit.over(end);
    this.#settle(result);
  }
}

const LOST = 'the server was lost before it answered; whether the call took effect is unknown';

function isEvents(headers: IncomingHttpHeaders): boolean {
  return mediaTypeOf(headers) === EVENTS_TYPE;
}

/** Another server is no way out of it, and it says nothing about this one. */
function refused(code: ErrorCode, message: string, cause: unknown): ExchangeFailure {
  return { final: true, error: new OutriderError(code, message, { cause }), end: undefined };
}

function distrusted(): OutriderError {
  return new OutriderError('UPSTREAM_UNREACHABLE', 'a server does not accept this gateway');
}

function unreachable(cause: unknown): OutriderError {
  return new OutriderError('UPSTREAM_UNREACHABLE', 'no server of the mesh can be reached', {
    cause,
  });
}

/** Nothing can be sent to any server now. */
function unfit(balancer: Balancer): OutriderError {
  const restMs = balancer.restMs();
  return restMs === undefined ? unreachable('no server is there') : unavailable(restMs);
}

function unavailable(retryAfterMs: number): OutriderError {
  return new OutriderError('UPSTREAM_UNAVAILABLE', 'no server takes this now; try again later', {
    retryAfterMs,
  });
}
