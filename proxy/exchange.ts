import type { IncomingMessage, ServerResponse } from 'node:http';
import { answerJson } from '#core/http';
import type { DatasourceTarget, HostTarget } from '#policies';
import { CheckedAddresses } from './addresses.ts';
import { refusedTarget } from './answer.ts';
import type { Caller } from './authority.ts';
import { WHOLE_ANSWER } from './credential.ts';
import { listDatasources } from './discovery.ts';
import type { ExchangeRecord } from './exchange-record.ts';
import { type Exchanged, forward } from './forward.ts';
import { upstreamHeaders } from './headers.ts';
import { inspect } from './inspect.ts';
import type { OpenExchange } from './open-exchanges.ts';
import type { Parts } from './parts.ts';
import { assertBodyFits, type TakenPlace, takePlace } from './places.ts';
import { createRedactor } from './redaction.ts';
import { requestTarget } from './request-target.ts';
import { authorizeUpstream, type Upstream } from './upstream.ts';

const DISCOVERY_PATH = '/datasources';

/**
 * One request, from the token to the last byte of the answer. The order is the protection: each step needs the one before.
 * What went out has been recorded when it resolves; a failure is the caller's to record.
 */
export async function exchange(
  parts: Parts,
  request: IncomingMessage,
  response: ServerResponse,
  expectsContinue: boolean,
  record: ExchangeRecord,
): Promise<Partial<Exchanged>> {
  parts.audit.assertWritable();
  const caller = parts.authority.callerOf(await parts.identifier.identify(request));
  record.calledBy(caller);
  if (request.url === DISCOVERY_PATH)
    return answerDiscovery(parts, request, response, caller, record);

  const target = requestTarget(request);
  record.aimedAt(target);
  const upstream = authorizeUpstream(caller, target, Date.now());
  record.allowedBy(upstream.decision);
  const { limits } = upstream.decision;
  assertBodyFits(request.headers['content-length'], limits);
  // Of what is allowed only, and before anything is asked or dialled.
  const place = takePlace(parts, caller, upstream.decision);
  const open = parts.open.begin(caller, target, limits);
  try {
    return await send(parts, request, response, {
      expectsContinue,
      record,
      target,
      upstream,
      open,
      place,
    });
  } finally {
    open.close();
    place.release();
  }
}

/** The steps after the decision: where it is, what goes into it, and the exchange itself. */
async function send(
  parts: Parts,
  request: IncomingMessage,
  response: ServerResponse,
  allowed: {
    readonly expectsContinue: boolean;
    readonly record: ExchangeRecord;
    readonly target: HostTarget | DatasourceTarget;
    readonly upstream: Upstream;
    readonly open: OpenExchange;
    readonly place: TakenPlace;
  },
): Promise<Exchanged> {
  const { expectsContinue, record, target, upstream, open, place } = allowed;
  const inspected = await inspect(request, response, { target, upstream, open, expectsContinue });
  const addresses = CheckedAddresses.check(
    upstream.grant,
    await parts.resolver.resolve(upstream.host),
  );
  const prepared = upstream.prepare(parts.secrets, inspected.query);
  const whole = prepared.inject.length > 0 ? WHOLE_ANSWER : { strip: [], inject: [] };
  return forward(
    request,
    response,
    {
      dispatcher: parts.pools.for({ ...upstream, addresses }),
      method: target.method,
      path: prepared.path,
      headers: upstreamHeaders(request.rawHeaders, {
        host: upstream.authority,
        anonymous: upstream.anonymous,
        strip: [...prepared.strip, ...whole.strip],
        inject: [...prepared.inject, ...whole.inject],
      }),
      redactor: prepared.secrets.length > 0 ? createRedactor(prepared.secrets) : undefined,
      anonymous: upstream.anonymous,
      timeoutMs: parts.upstreamTimeoutMs,
      limits: upstream.decision.limits,
      open,
      expectsContinue: expectsContinue && inspected.body === undefined,
      body: inspected.body,
      spend: place.spend,
    },
    (came) => parts.audit.record(record.completed(came)),
  );
}

function answerDiscovery(
  parts: Parts,
  request: IncomingMessage,
  response: ServerResponse,
  caller: Caller,
  record: ExchangeRecord,
): Partial<Exchanged> {
  record.add({ target: DISCOVERY_PATH });
  if (request.method !== 'GET') throw refusedTarget('method_not_allowed');
  const datasources = listDatasources(caller, Date.now());
  parts.audit.record(record.completed({ status: 200 }));
  answerJson(response, 200, { datasources });
  return {};
}
