import type { Readable } from 'node:stream';
import {
  type handleBidiStreamingCall,
  type handleClientStreamingCall,
  type handleServerStreamingCall,
  type handleUnaryCall,
  Metadata,
  type ServerDuplexStream,
  type ServerWritableStream,
  type ServiceError,
  status,
} from '@grpc/grpc-js';
import {
  type ErrorCode,
  FAILURES,
  type GrpcStatusName,
  OutriderError,
  toOutriderError,
} from './errors.ts';
import { requestIdFrom } from './ids.ts';

/** What a service method learns of its call besides the message. */
export interface CallContext {
  readonly requestId: string;
  /** The bearer token; empty where `authorization` holds something else; undefined where there is none. */
  readonly bearer: string | undefined;
  /** Aborted when the caller cancels or vanishes (reason: CANCELLED) or its deadline passes (DEADLINE_EXCEEDED). */
  readonly signal: AbortSignal;
  /** Milliseconds since 1970; Infinity without a deadline. */
  readonly deadline: number;
}

/** Told of every call that failed, once, so that one place writes the log. */
export type Report = (method: string, error: OutriderError, context: CallContext) => void;

/** What every kind of server call has in common. */
interface AnyCall extends NodeJS.EventEmitter {
  readonly metadata: Metadata;
  getDeadline(): Date | number;
}

/** A method as an async function; whatever it throws becomes a status with its code in the trailing metadata. */
export function unary<Q, R>(
  method: string,
  handle: (request: Q, context: CallContext) => Promise<R>,
  report: Report,
): handleUnaryCall<Q, R> {
  return (call, callback) => {
    const context = contextOf(call);
    handle(call.request, context).then(
      (response) => callback(null, response),
      (thrown: unknown) => callback(fail(method, thrown, context, report)),
    );
  };
}

/** A server stream as an async iterable; the next item is asked for only when the last has been taken. */
export function serverStream<Q, R>(
  method: string,
  handle: (request: Q, context: CallContext) => AsyncIterable<R>,
  report: Report,
): handleServerStreamingCall<Q, R> {
  return (call) => {
    const context = contextOf(call);
    void pump(() => handle(call.request, context), call, method, context, report);
  };
}

/** A client stream: the handler iterates over the requests and answers once. */
export function clientStream<Q, R>(
  method: string,
  handle: (requests: AsyncIterable<Q>, context: CallContext) => Promise<R>,
  report: Report,
): handleClientStreamingCall<Q, R> {
  return (call, callback) => {
    const context = contextOf(call);
    handle(untilCancelled(call, context.signal), context).then(
      (response) => callback(null, response),
      (thrown: unknown) => callback(fail(method, thrown, context, report)),
    );
  };
}

/** A stream both ways: requests in as an iterable, responses out as an iterable. */
export function bidiStream<Q, R>(
  method: string,
  handle: (requests: AsyncIterable<Q>, context: CallContext) => AsyncIterable<R>,
  report: Report,
): handleBidiStreamingCall<Q, R> {
  return (call) => {
    const context = contextOf(call);
    void pump(
      () => handle(untilCancelled(call, context.signal), context),
      call,
      method,
      context,
      report,
    );
  };
}

/** How long after the end of the requests a caller may turn out to have left. */
const CANCEL_FOLLOWS_MS = 10;
/** Turns of the event loop after that: a process that was held up for so long has not read yet what came meanwhile. */
const READ_TURNS = 4;

/**
 * The requests of a call. A caller that leaves is an error, not their end: half a file must not pass for a whole one. Node's
 * HTTP/2 client cancels by ending its side and resetting the stream right after, so the end alone does not tell.
 */
async function* untilCancelled<Q>(call: Readable, signal: AbortSignal): AsyncGenerator<Q> {
  // The end of the requests must not destroy the stream, as iterating over `call` itself would: responses still follow it.
  const requests: AsyncIterable<Q> = call.iterator({ destroyOnReturn: false });
  try {
    yield* requests;
  } catch (error) {
    if (!isCut(error)) throw error;
    throw new OutriderError('CANCELLED', 'the caller is gone', { cause: error });
  }
  await new Promise((resolve) => setTimeout(resolve, CANCEL_FOLLOWS_MS));
  for (let turn = 0; turn < READ_TURNS; turn++) await new Promise((read) => setImmediate(read));
  if (signal.aborted) throw new OutriderError('CANCELLED', 'the caller gave up');
}

/** What Node says of a stream whose connection is gone. */
function isCut(error: unknown): boolean {
  return error instanceof Error && 'code' in error && error.code === 'ERR_STREAM_PREMATURE_CLOSE';
}

/** A method whose place is kept. @throws {OutriderError} UNIMPLEMENTED */
export function unimplemented(method: string): never {
  throw new OutriderError('UNIMPLEMENTED', `${method} is not implemented in this version`);
}

/** What grpc-js says of a call that never left this process. */
const NOT_SENT =
  /^(No connection established|Channel closed before call started|Name resolution failed|Waiting for LB pick)/;

/** An error of a call to another part, back in our terms: its code where it sent one. */
export function fromServiceError(error: unknown): OutriderError {
  if (!isServiceError(error)) return toOutriderError(error);
  const sent = error.metadata.get('outrider-error-code')[0];
  const retry = Number(error.metadata.get('retry-after-ms')[0]);
  const options = { cause: error, ...(Number.isFinite(retry) ? { retryAfterMs: retry } : {}) };
  if (typeof sent === 'string' && isErrorCode(sent))
    return new OutriderError(sent, error.details, options);
  if (error.code === status.CANCELLED)
    return new OutriderError('CANCELLED', 'the call was cancelled', options);
  if (error.code === status.DEADLINE_EXCEEDED)
    return new OutriderError('DEADLINE_EXCEEDED', 'the call took too long', options);
  if (error.code === status.UNIMPLEMENTED)
    return new OutriderError('UNIMPLEMENTED', 'the other side does not do that', options);
  if (error.code === status.RESOURCE_EXHAUSTED)
    return new OutriderError('BODY_TOO_LARGE', 'the message is too large', options);
  // Only where no connection was made is it certain that nothing was carried out.
  if (error.code === status.UNAVAILABLE && !NOT_SENT.test(error.details))
    return new OutriderError(
      'UPSTREAM_LOST',
      'a part of the mesh was lost during the call',
      options,
    );
  return new OutriderError('UPSTREAM_UNREACHABLE', 'a part of the mesh cannot be reached', options);
}

export function isErrorCode(text: string): text is ErrorCode {
  return Object.hasOwn(FAILURES, text);
}

async function pump<R>(
  start: () => AsyncIterable<R>,
  call: ServerWritableStream<unknown, R> | ServerDuplexStream<unknown, R>,
  method: string,
  context: CallContext,
  report: Report,
): Promise<void> {
  try {
    for await (const response of start()) {
      if (context.signal.aborted) return;
      if (!call.write(response)) await drained(call, context.signal);
    }
    call.end();
  } catch (thrown) {
    const error = fail(method, thrown, context, report);
    if (!context.signal.aborted) call.emit('error', error);
  }
}

function drained(call: NodeJS.EventEmitter, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const done = () => {
      call.off('drain', done);
      signal.removeEventListener('abort', done);
      resolve();
    };
    call.once('drain', done);
    signal.addEventListener('abort', done);
    if (signal.aborted) done();
  });
}

/** A caller's own timer is ahead of ours by what its request took to get here. */
const DEADLINE_SLACK_MS = 250;

function contextOf(call: AnyCall): CallContext {
  const abort = new AbortController();
  const given = call.getDeadline();
  const deadline = given instanceof Date ? given.getTime() : given;
  call.on('cancelled', () => {
    const late = Date.now() >= deadline - DEADLINE_SLACK_MS;
    abort.abort(
      late
        ? new OutriderError('DEADLINE_EXCEEDED', 'the deadline of the call passed')
        : new OutriderError('CANCELLED', 'the caller went away'),
    );
  });
  const authorization = call.metadata.get('authorization')[0];
  const bearer =
    typeof authorization === 'string'
      ? (/^bearer (\S+)$/i.exec(authorization)?.[1] ?? '')
      : undefined;
  return {
    requestId: requestIdFrom(call.metadata.get('x-request-id')[0]),
    bearer,
    signal: abort.signal,
    deadline,
  };
}

function fail(
  method: string,
  thrown: unknown,
  context: CallContext,
  report: Report,
): Partial<ServiceError> & Error {
  const error = toOutriderError(thrown);
  report(method, error, context);
  const metadata = new Metadata();
  metadata.set('outrider-error-code', error.code);
  metadata.set('x-request-id', context.requestId);
  if (error.retryAfterMs !== undefined)
    metadata.set('retry-after-ms', String(Math.ceil(error.retryAfterMs)));
  return Object.assign(new Error(error.message), {
    code: grpcStatus(error.failure.grpc),
    details: error.message,
    metadata,
  });
}

function grpcStatus(name: GrpcStatusName): status {
  return status[name];
}

function isServiceError(error: unknown): error is ServiceError {
  return (
    error instanceof Error &&
    'metadata' in error &&
    error.metadata instanceof Metadata &&
    'details' in error &&
    'code' in error
  );
}
