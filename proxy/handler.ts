import type { IncomingMessage } from 'node:http';
import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { type OutriderError, publicError, toOutriderError } from '#core/errors';
import { answerJson } from '#core/http';
import type { HttpRequest, HttpResponse } from '#core/http-exchange';
import { requestIdFrom } from '#core/ids';
import { ServerResponse } from '#core/node-http';
import { OpenList } from '#core/open-list';
import { REASONS } from '#policies';
import type { RequestHead } from './admission.ts';
import {
  answerConnectRefusal,
  answerRefusal,
  answerStreamRefusal,
  refusedTarget,
  statusOf,
} from './answer.ts';
import { deliver } from './audit-delivery.ts';
import { AuditGap } from './audit-sink.ts';
import { connectThrough } from './connect.ts';
import { exchange } from './exchange.ts';
import { ExchangeRecord, verdictOf } from './exchange-record.ts';
import { type Exchanged, exchangedOf } from './forward.ts';
import { valuesOf } from './headers.ts';
import { unreadable } from './parse-failure.ts';
import type { Parts } from './parts.ts';
import { denialOf, refused } from './refusal.ts';
import { reportReturned } from './returned-secret.ts';
import { exchangeStream, protocolOfStream, type StreamRequest } from './stream-exchange.ts';
import { TOKEN_PATH } from './token-exchange.ts';
import type { Upgrading } from './websocket.ts';

/** The doors of the proxy's listener. Neither rejects: every failure becomes an answer and one audit record. */
export interface Handler {
  request(request: HttpRequest, response: HttpResponse, expectsContinue: boolean): Promise<void>;
  connect(request: HttpRequest, socket: Duplex, head: Buffer): Promise<void>;
  /** A request that asks to go on as a WebSocket. */
  upgrade(request: IncomingMessage, socket: Socket, head: Buffer): Promise<void>;
  /** A request over HTTP/2. */
  stream(request: StreamRequest): Promise<void>;
  /** What node:http could not read. */
  malformed(error: Error, socket: Duplex): void;
  /** Resolves when what is under way now has ended and is recorded. */
  settled(): Promise<void>;
}

const DELIVERY_PATH = '/.outrider/audit';

export function createHandler(parts: Parts): Handler {
  const running = new OpenList<Promise<void>>();
  /** How many requests of a connection are not answered yet, and the last that came. */
  const pending = new WeakMap<Duplex, { count: number; last?: HttpRequest }>();
  const isBusy = (socket: Duplex): boolean => (pending.get(socket)?.count ?? 0) > 0;
  const pendingOf = (socket: Duplex): { count: number; last?: HttpRequest } => {
    let known = pending.get(socket);
    if (!known) pending.set(socket, (known = { count: 0 }));
    return known;
  };
  const track = (call: Promise<void>): Promise<void> => {
    running.add(call);
    const over = (): void => running.delete(call);
    return call.then(over, over);
  };

  return {
    request: (request, response, expectsContinue) => {
      response.on('error', () => {});
      const unanswered = pendingOf(request.socket);
      unanswered.count += 1;
      unanswered.last = request;
      response.once('close', () => void (unanswered.count -= 1));
      return track(
        request.url === DELIVERY_PATH
          ? answerDelivery(parts, request, response)
          : request.url === TOKEN_PATH && parts.exchangeToken
            ? parts.exchangeToken(request, response)
            : answerRequest(parts, request, response, expectsContinue),
      );
    },

    connect: (request, socket, head) => {
      socket.on('error', () => {});
      if (isBusy(socket)) return track(cutBehind(parts, request, socket, 'connect'));
      return track(answerConnect(parts, request, socket, head));
    },

    upgrade: (request, socket, head) => {
      socket.on('error', () => {});
      if (isBusy(socket)) return track(cutBehind(parts, request, socket, 'forward'));
      const response = new ServerResponse(request);
      response.shouldKeepAlive = false;
      response.assignSocket(socket);
      response.once('finish', () => socket.end());
      const detach = (): void => response.detachSocket(socket);
      return track(answerUpgrade(parts, request, response, { socket, head, detach }));
    },

    stream: (request) => track(answerStream(parts, request)),

    async settled() {
      await Promise.allSettled(running);
    },

    malformed(error, socket) {
      socket.on('error', () => {});
      // In the middle of an answer another one must not begin; the request that is cut writes its own record. A caller that
      // only went away has asked for nothing.
      const parsed = 'code' in error && /^(HPE_|ERR_HTTP_)/.test(String(error.code));
      // What breaks off, or is wrong, in the rest of a body that was answered early is of that request, which has its record.
      const ofAnswered = pending.get(socket)?.last?.complete === false;
      if (isBusy(socket) || ofAnswered || !parsed || !socket.writable) {
        socket.destroy();
        return;
      }
      const record = new ExchangeRecord(requestIdFrom(undefined), 'forward', undefined);
      const failure = refuse(parts, record, unreadable(error));
      answerConnectRefusal(socket, failure, record.egressId);
    },
  };
}

/** Behind an answer that is still to come there is no place for what takes the connection over. */
async function cutBehind(
  parts: Parts,
  request: HttpRequest,
  socket: Duplex,
  ingress: 'connect' | 'forward',
): Promise<void> {
  const record = new ExchangeRecord(egressIdOf(request), ingress, request.method);
  refuse(parts, record, refused('INVALID_REQUEST', REASONS.pipeline_limit.text, 'pipeline_limit'));
  socket.destroy();
}

async function answerRequest(
  parts: Parts,
  request: HttpRequest,
  response: HttpResponse,
  expectsContinue: boolean,
): Promise<void> {
  const record = new ExchangeRecord(egressIdOf(request), 'forward', request.method);
  try {
    const came = await exchange(parts, request, response, { expectsContinue }, record);
    count(parts, 'allow', record, came);
  } catch (error) {
    const failure = refuse(parts, record, error);
    answerRefusal(request, response, failure, record.egressId);
  }
}

async function answerUpgrade(
  parts: Parts,
  request: HttpRequest,
  response: HttpResponse,
  upgrading: Upgrading,
): Promise<void> {
  const record = new ExchangeRecord(egressIdOf(request), 'forward', request.method);
  try {
    const came = await exchange(parts, request, response, { upgrading }, record);
    count(parts, 'allow', record, came);
  } catch (error) {
    const failure = refuse(parts, record, error);
    // After the 101 the bytes belong to the two ends.
    if (response.socket) answerRefusal(request, response, failure, record.egressId);
    else upgrading.socket.destroy();
  }
}

async function answerStream(parts: Parts, request: StreamRequest): Promise<void> {
  const { stream, head } = request;
  const record = new ExchangeRecord(egressIdOf(head), 'forward', head.method);
  try {
    const came = await exchangeStream(parts, request, record);
    count(parts, 'allow', record, came);
  } catch (error) {
    const failure = refuse(parts, record, error);
    answerStreamRefusal(stream, failure, record.egressId, protocolOfStream(head) === 'grpc');
  }
}

async function answerConnect(
  parts: Parts,
  request: HttpRequest,
  socket: Duplex,
  head: Buffer,
): Promise<void> {
  const record = new ExchangeRecord(egressIdOf(request), 'connect', 'CONNECT');
  const answered = { ok: false };
  try {
    const came = await connectThrough(parts, request, socket, head, record, answered);
    count(parts, 'allow', record, came);
  } catch (error) {
    const failure = refuse(parts, record, error);
    // After the 200 there is no way to say why: the bytes belong to the two ends.
    if (answered.ok) socket.destroy();
    else answerConnectRefusal(socket, failure, record.egressId);
  }
}

async function answerDelivery(
  parts: Parts,
  request: HttpRequest,
  response: HttpResponse,
): Promise<void> {
  try {
    answerJson(response, 200, { acknowledged: await deliver(request, parts) });
  } catch (thrown) {
    const error = toOutriderError(thrown);
    parts.log.warn('an audit delivery was refused', { error });
    if (error.code === 'METHOD_NOT_ALLOWED') response.setHeader('allow', 'POST');
    if (error instanceof AuditGap)
      answerJson(response, error.failure.http, {
        ...publicError(error),
        acknowledged: error.acknowledged,
      });
    else answerRefusal(request, response, error, egressIdOf(request));
  }
}

/** The one place where a failure is recorded. Returns what the caller is told: that the audit failed goes before anything else. */
function refuse(parts: Parts, record: ExchangeRecord, thrown: unknown): OutriderError {
  let error = asDatasourceError(toOutriderError(thrown));
  const exchanged = exchangedOf(thrown);
  if (!record.written) {
    try {
      parts.audit.record(record.failed(error, statusOf(error), exchanged), record.labels);
    } catch (unwritable) {
      error = toOutriderError(unwritable);
    }
  }
  const reason = denialOf(error)?.reason;
  if (reason !== undefined) parts.metrics.denials.inc({ reason });
  count(parts, verdictOf(error.code), record, exchanged);
  const fields = { requestId: record.egressId, durationMs: record.durationMs, error };
  if (error.code === 'INTERNAL') parts.log.error('a request failed', fields);
  else parts.log.debug('a request was refused', fields);
  return error;
}

/** A datasource that is not there is told as that. */
function asDatasourceError(error: OutriderError): OutriderError {
  return error.code === 'EGRESS_DENIED' && denialOf(error)?.reason === 'alias_unknown'
    ? refusedTarget('alias_unknown')
    : error;
}

function count(
  parts: Parts,
  verdict: string,
  record: ExchangeRecord,
  { upstreamMs = 0, bytesIn = 0, bytesOut = 0, redactions = 0 }: Partial<Exchanged>,
): void {
  const { metrics } = parts;
  if (redactions > 0) reportReturned(parts, record, redactions);
  metrics.requests.add(1, verdict);
  metrics.duration.observe(record.durationMs / 1_000);
  metrics.own.observe(record.ownMs / 1_000);
  if (upstreamMs > 0) metrics.upstream.observe(upstreamMs / 1_000);
  if (bytesIn > 0) metrics.bytes.add(bytesIn, 'in');
  if (bytesOut > 0) metrics.bytes.add(bytesOut, 'out');
}

function egressIdOf(request: Pick<RequestHead, 'rawHeaders'>): string {
  return requestIdFrom(valuesOf(request.rawHeaders, 'x-request-id')[0]);
}
