import type { IncomingHttpHeaders, IncomingMessage, ServerResponse } from 'node:http';
import { type Dispatcher, errors } from 'undici';
import { type ErrorCode, OutriderError } from '#core/errors';
import type { Balancer, Upstream } from './balancer.ts';
import { requestHeaders, responseHeaders } from './headers.ts';

/** A request that has passed every check. */
export interface Admitted {
  readonly request: IncomingMessage;
  readonly response: ServerResponse;
  readonly body: Buffer;
  readonly requestId: string;
  readonly assertion: string;
}

/**
 * Sends an admitted request to one server and its answer back, byte for byte and as it comes. Resolves when the answer is
 * complete or the client has gone; the client going away ends the request at the server at once.
 * Nothing is sent twice: another server is tried, once, only where not a byte had reached the first.
 * @throws {OutriderError} UPSTREAM_UNREACHABLE | UPSTREAM_LOST, before any byte of an answer
 */
export async function relay(admitted: Admitted, balancer: Balancer): Promise<void> {
  const first = balancer.pick();
  if (!first) throw unreachable('no server is configured');
  const failure = await exchange(admitted, first, balancer);
  if (!failure) return;
  const second = failure.final ? undefined : balancer.pick(first);
  if (!second) throw failure.error;
  const again = await exchange(admitted, second, balancer);
  if (again) throw again.error;
}

/** An exchange that ended without a byte of an answer. `final`: the request must not go to another server. */
interface ExchangeFailure {
  readonly final: boolean;
  readonly error: OutriderError;
}

async function exchange(
  admitted: Admitted,
  upstream: Upstream,
  balancer: Balancer,
): Promise<ExchangeFailure | undefined> {
  const { request, body, requestId, assertion } = admitted;
  const end = balancer.begin(upstream);
  const failure = await new Promise<ExchangeFailure | undefined>((resolve) => {
    upstream.pool.dispatch(
      {
        method: request.method ?? 'POST',
        path: upstream.path,
        headers: requestHeaders(request.headers, { assertion, requestId }),
        body: body.length > 0 ? body : null,
      },
      new Exchange(admitted, resolve),
    );
  });
  end();
  if (failure && !failure.final) balancer.eject(upstream);
  return failure;
}

/** One request at one server, in the calls that undici makes. */
class Exchange implements Dispatcher.DispatchHandler {
  readonly #response: ServerResponse;
  readonly #requestId: string;
  readonly #settle: (failure: ExchangeFailure | undefined) => void;
  #controller: Dispatcher.DispatchController | undefined;
  #answering = false;
  #distrusted = false;

  constructor(
    { response, requestId }: Admitted,
    settle: (failure: ExchangeFailure | undefined) => void,
  ) {
    this.#response = response;
    this.#requestId = requestId;
    this.#settle = settle;
    response.once('close', this.#onClientGone);
  }

  onRequestStart(controller: Dispatcher.DispatchController): void {
    this.#controller = controller;
    if (this.#response.destroyed) this.#onClientGone();
  }

  onResponseStart(
    controller: Dispatcher.DispatchController,
    status: number,
    headers: IncomingHttpHeaders,
  ): void {
    if (status < 200) return;
    if (status === 401) {
      // It was the gateway's word that was refused, not the client's token; asking the client for another would loop.
      this.#distrusted = true;
      controller.abort(new Error('401'));
      return;
    }
    this.#answering = true;
    this.#response.writeHead(status, responseHeaders(headers, this.#requestId));
    // The first event may be minutes away, and a client waits for the headers to know that its stream is open.
    if (headers['content-type']?.startsWith('text/event-stream')) this.#response.flushHeaders();
  }

  onResponseData(controller: Dispatcher.DispatchController, chunk: Buffer): void {
    if (this.#response.write(chunk)) return;
    controller.pause();
    this.#response.once('drain', () => controller.resume());
  }

  onResponseEnd(): void {
    this.#response.end();
    this.#done(undefined);
  }

  onResponseError(_controller: Dispatcher.DispatchController, cause: Error): void {
    if (this.#response.destroyed) this.#done(undefined);
    else if (this.#answering) {
      // The rest will not come: a cut connection says so, an orderly end would not.
      this.#response.destroy();
      this.#done(undefined);
    } else this.#done(this.#failure(cause));
  }

  #failure(cause: Error): ExchangeFailure {
    if (cause instanceof errors.InvalidArgumentError)
      return refused('INVALID_REQUEST', 'a header of the request cannot be passed on', cause);
    if (this.#distrusted)
      return refused('UPSTREAM_UNREACHABLE', 'a server does not accept this gateway', cause);
    if (this.#controller === undefined) return { final: false, error: unreachable(cause) };
    return refused(
      'UPSTREAM_LOST',
      'the server was lost before it answered; whether the call took effect is unknown',
      cause,
    );
  }

  /** An arrow, since it is its own identity for `off`. */
  readonly #onClientGone = (): void => {
    if (this.#response.writableFinished) return;
    this.#controller?.abort(new Error('the client went away'));
    // Before the connection stands there is nothing to abort yet: onRequestStart will find the client gone.
  };

  #done(failure: ExchangeFailure | undefined): void {
    this.#response.off('close', this.#onClientGone);
    this.#settle(failure);
  }
}

/** Another server is no way out of it. */
function refused(code: ErrorCode, message: string, cause: unknown): ExchangeFailure {
  return { final: true, error: new OutriderError(code, message, { cause }) };
}

function unreachable(cause: unknown): OutriderError {
  return new OutriderError('UPSTREAM_UNREACHABLE', 'no server of the mesh can be reached', {
    cause,
  });
}
