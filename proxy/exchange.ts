import { answerJson } from '#core/http';
import type { HttpRequest, HttpResponse } from '#core/http-exchange';
import { grantedDatasources, type RequestProtocol, requestProtocol } from '#policies';
import { abandon } from './abandon.ts';
import { type Admitted, addressed, admitted, identified } from './admission.ts';
import { refusedTarget } from './answer.ts';
import type { Caller } from './authority.ts';
import type { ExchangeRecord } from './exchange-record.ts';
import { type Exchanged, forward, type Outbound } from './forward.ts';
import { valuesOf } from './headers.ts';
import { inspect } from './inspect.ts';
import type { Parts } from './parts.ts';
import { requestTarget } from './request-target.ts';
import { assertHandshake, asWebSocket, type Upgrading } from './websocket.ts';

const DISCOVERY_PATH = '/datasources';
/** Where a sidecar says that a program speaks HTTP/2 to it, which is decided as such and goes on as HTTP/1.1. */
const PROTOCOL_HEADER = 'x-outrider-protocol';

/** What the caller wants besides an answer. */
export interface Wish {
  /** It waits for `100 Continue`. */
  readonly expectsContinue?: boolean;
  /** To go on as a WebSocket. */
  readonly upgrading?: Upgrading;
}

/**
 * One request, from the token to the last byte of the answer. What went out has been recorded when it resolves; a failure is the
 * caller's to record.
 */
export async function exchange(
  parts: Parts,
  request: HttpRequest,
  response: HttpResponse,
  wish: Wish,
  record: ExchangeRecord,
): Promise<Partial<Exchanged>> {
  const calling = identified(parts, request, record);
  const caller = calling instanceof Promise ? await calling : calling;
  if (request.url === DISCOVERY_PATH)
    return answerDiscovery(parts, request, response, caller, record);
  if (wish.upgrading) assertHandshake(request, wish.upgrading);
  const target = requestTarget(request, protocolOf(request, wish));
  return admitted(parts, caller, target, request, record, (allowed) =>
    send(parts, request, response, { ...allowed, wish, record }),
  );
}

/** The steps after the decision: what is asked, where that is, and the exchange itself. */
async function send(
  parts: Parts,
  request: HttpRequest,
  response: HttpResponse,
  allowed: Admitted & { readonly wish: Wish; readonly record: ExchangeRecord },
): Promise<Exchanged> {
  const { wish, record, target, upstream, open, place } = allowed;
  const { expectsContinue = false, upgrading } = wish;
  const { rawHeaders } = request;
  const inspecting = inspect(request, response, {
    policy: allowed.caller.policy,
    target,
    upstream,
    open,
    expectsContinue,
    onStatement: (text) => record.asks(text),
  });
  const { query, body } = inspecting instanceof Promise ? await inspecting : inspecting;
  const addressing = addressed(parts, allowed, { query, body, rawHeaders });
  const there = addressing instanceof Promise ? await addressing : addressing;
  const { inject, abandonment, onRejected } = there;
  const pool = parts.pools.for(there.route);
  const outbound: Outbound = {
    pool,
    method: there.method ?? target.method,
    path: there.path,
    headers: there.headers,
    redactor: there.redactor,
    redactsFrom: there.redactsFrom,
    transform: there.transform,
    announce: there.announce,
    anonymous: upstream.anonymous,
    timeoutMs: parts.upstreamTimeoutMs,
    idleMs: parts.tunnelIdleMs,
    limits: upstream.decision.limits,
    rule: upstream.decision.rule,
    open,
    expectsContinue: expectsContinue && body === undefined,
    body,
    spend: place.spend,
  };
  record.sentOn();
  const answered = forward(
    request,
    response,
    upgrading ? asWebSocket(request, response, outbound, upgrading) : outbound,
    (came, written) => {
      if (came.status === 401) onRejected();
      parts.audit.recordInTurn(record.completed(came), record.labels, written);
    },
  );
  if (abandonment) {
    const headers = ['host', upstream.authority, ...inject.flat()];
    answered.catch((why: unknown) => abandon(pool, headers, abandonment, why));
  }
  return answered;
}

/** What a request is spoken in, as its sidecar has decided too. */
function protocolOf({ rawHeaders }: HttpRequest, { upgrading }: Wish): RequestProtocol {
  const [contentType] = valuesOf(rawHeaders, 'content-type');
  return requestProtocol({
    http2: valuesOf(rawHeaders, PROTOCOL_HEADER)[0] === 'http2',
    websocket: upgrading !== undefined,
    contentType,
  });
}

function answerDiscovery(
  parts: Parts,
  request: HttpRequest,
  response: HttpResponse,
  caller: Caller,
  record: ExchangeRecord,
): Partial<Exchanged> {
  record.aimedAtPath(DISCOVERY_PATH);
  if (request.method !== 'GET') {
    response.setHeader('allow', 'GET');
    throw refusedTarget('method_not_allowed');
  }
  const datasources = grantedDatasources(caller.set, caller.policy.projection, Date.now());
  parts.audit.record(record.completed({ status: 200 }), record.labels);
  answerJson(response, 200, { datasources });
  return {};
}
