import { toOutriderError } from '#core/errors';
import type { HttpRequest, HttpResponse } from '#core/http-exchange';
import { isIdSpace } from '#core/ids';
import type { Principal } from '#core/principal';
import type { GatewayAudit } from './audit.ts';
import type { CallFacts, CallResult } from './call-record.ts';
import type { Repeat } from './recovery/may-repeat.ts';
import type { Recovery } from './recovery/recovery.ts';
import { isSetting } from './recovery/session-settings.ts';
import type { Balancer } from './relay/balancer.ts';
import { readBody } from './relay/body.ts';
import { AnswerWatch, type CallOutcome } from './relay/call-outcome.ts';
import { assertHeadersAgree, eraOf } from './relay/era.ts';
import { responseHeaders } from './relay/headers.ts';
import { assertReadAsWritten } from './relay/media-type.ts';
import { type Message, readMessages, toolOf } from './relay/message.ts';
import { answering, type MessageId } from './relay/protocol-error.ts';
import { type Admitted, type Relayed, relay } from './relay/relay.ts';
import { rewriteMessages } from './relay/rewrite.ts';
import { ANY_SERVER, type ClientParameters } from './sessions/sealed-id.ts';
import type { SessionEnd, Sessions } from './sessions/sessions.ts';
import {
  assertCallsTools,
  assertMayCall,
  onlyCallable,
  type ToolRights,
} from './tools/tool-rights.ts';

export interface ServeDeps {
  readonly balancer: Balancer;
  readonly sessions: Sessions;
  /** Absent: a session ends with its server. */
  readonly recovery: Recovery | undefined;
  readonly mayRepeat: (messages: readonly Message[]) => Repeat;
  readonly maxBody: number;
  /** Whether the servers are ours: they keep no sessions, but give each client a space for its ids. */
  readonly ours: boolean;
  /** The gateway's word for who calls; undefined for servers that are not ours. */
  readonly assertionFor: (principal: Principal) => Promise<string> | undefined;
  readonly rightsOf: (principal: Principal) => ToolRights;
  readonly policyDigest: () => string | undefined;
  readonly audit: GatewayAudit;
  readonly record: (facts: CallFacts, result: CallResult) => void;
  readonly failedOver: () => void;
}

/** A request of somebody who was let in. */
export interface Entered {
  readonly request: HttpRequest;
  readonly response: HttpResponse;
  readonly requestId: string;
  readonly principal: Principal;
  /** Called once it is read: what comes of its calls is recorded here from then on. */
  readonly onRead: () => void;
}

/**
 * One MCP request, from its headers to the end of its answer. Order is behaviour: a session that is not the caller's is not found
 * before its body is read, and nothing is sent on before it was decided about and can be recorded.
 * @throws {OutriderError}
 */
export async function serveMcp(entered: Entered, deps: ServeDeps): Promise<void> {
  const { request, response, requestId, principal } = entered;
  const era = eraOf(request.headers);
  // Modern requests have no session, whatever they say.
  const sessionId = era === 'modern' ? undefined : request.headers['mcp-session-id'];
  const session =
    sessionId === undefined ? undefined : deps.sessions.open(String(sessionId), principal);
  const kept = session?.backend === ANY_SERVER ? undefined : session;
  const read = readBody(request, deps.maxBody);
  const body = read instanceof Promise ? await read : read;
  const started = performance.now();
  const holdsMessages = body.length > 0 || request.method === 'POST';
  if (holdsMessages) assertReadAsWritten(request.headers);
  const messages = holdsMessages ? readMessages(body) : [];
  const asked = askedIn(messages);
  entered.onRead();
  const calls = messages.some((message) => toolOf(message) !== undefined);
  const facts: CallFacts = {
    requestId,
    principal,
    era,
    messages,
    traceparent: request.headers['traceparent'],
    policyDigest: deps.policyDigest(),
    bytesIn: body.length,
  };
  const watch = new AnswerWatch();
  let relayed: Relayed | undefined;
  let lostAfterMs: number | undefined;
  try {
    assertHeadersAgree(request.headers, messages);
    const rights = deps.rightsOf(principal);
    assertCallsTools(messages);
    assertMayCall(rights, messages);
    if (calls) deps.audit.assertWritable();
    const assertion = deps.assertionFor(principal);
    const endsHere = session !== kept && request.method === 'DELETE';
    // Before the answer: whoever reads that finds the session ended.
    if (session && endsHere) await deps.sessions.end(session, 'ended');
    relayed = endsHere
      ? answerEnd(response, requestId)
      : await relay(
          {
            request,
            response,
            body,
            requestId,
            assertion: assertion === undefined ? undefined : await assertion,
            session,
            again: deps.mayRepeat(messages),
            asked,
            begin: era === 'modern' ? undefined : beginFor(principal, messages, deps),
            rewrite: rewriteFor(rights, request, messages),
            watch:
              calls || (deps.recovery && kept && messages.some(isSetting))
                ? (piece) => watch.see(piece)
                : undefined,
            lost: (upstreamMs) => {
              lostAfterMs = upstreamMs;
            },
          },
          deps.balancer,
          deps.recovery,
        );
    if (relayed.failedOver) deps.failedOver();
    const outcome = outcomeOf(relayed, watch);
    if (kept && outcome === 'ok') deps.recovery?.note(kept, messages);
    const end = kept && endOf(request.method, relayed.status);
    if (kept && end) {
      void deps.sessions.end(kept, end);
      deps.recovery?.forget(kept);
    }
    deps.record(facts, {
      outcome,
      status: relayed.status,
      durationMs: performance.now() - started,
      upstreamMs: relayed.upstreamMs,
      bytesOut: watch.bytes,
    });
  } catch (thrown) {
    const error = toOutriderError(thrown);
    deps.record(facts, {
      outcome: error.code === 'TOOL_NOT_ALLOWED' ? 'denied' : 'error',
      status: error.failure.http,
      error,
      durationMs: performance.now() - started,
      upstreamMs: lostAfterMs,
      bytesOut: watch.bytes,
    });
    throw answering(error, asked.length === 1 ? (asked[0] ?? null) : null);
  }
}

function outcomeOf({ ended, status }: Relayed, watch: AnswerWatch): CallOutcome {
  if (ended === 'whole') return watch.outcome(status);
  return ended === 'broken' ? 'error' : 'cancelled';
}

/** The requests among messages: what has no id is a notification, what has no method an answer. */
function askedIn(messages: readonly Message[]): MessageId[] {
  return messages.flatMap(({ id, method }) => (method === undefined || id === null ? [] : [id]));
}

function beginFor(
  principal: Principal,
  messages: readonly Message[],
  { sessions, ours }: ServeDeps,
): Admitted['begin'] {
  return ({ url }, upstreamId) => {
    const client = messages.map(clientOf).find((found) => found !== undefined);
    if (!ours || !isIdSpace(upstreamId))
      return sessions.begin(url.href, upstreamId, principal, client);
    // Ours cannot tell the request that begins a session from others that have none.
    return client && sessions.begin(ANY_SERVER, upstreamId, principal, client);
  };
}

function clientOf({ method, params }: Message): ClientParameters | undefined {
  const { protocolVersion, capabilities, clientInfo } = params;
  return method === 'initialize' && typeof protocolVersion === 'string'
    ? { protocolVersion, capabilities: capabilities ?? {}, clientInfo: clientInfo ?? {} }
    : undefined;
}

/** A list comes where it was asked for, or on a stream that was broken off and is resumed. */
function rewriteFor(
  { tools }: ToolRights,
  request: HttpRequest,
  messages: readonly Message[],
): Admitted['rewrite'] {
  if (tools === 'any') return undefined;
  const lists = messages.some(({ method }) => method === 'tools/list');
  if (!lists && request.method !== 'GET') return undefined;
  return (headers) => rewriteMessages(headers, onlyCallable(tools));
}

/** The end of a session that no server keeps is for nobody else to say. */
function answerEnd(response: HttpResponse, requestId: string): Relayed {
  response.writeHead(200, responseHeaders({}, { requestId })).end();
  return { status: 200, upstreamMs: 0, ended: 'whole', failedOver: false };
}

/** What an answer says of the session's end. The 404 of a GET may be that of a server without event streams. */
function endOf(method: string | undefined, status: number | undefined): SessionEnd | undefined {
  if (status === 404 && (method === 'POST' || method === 'DELETE')) return 'lost';
  return method === 'DELETE' && status !== undefined && status < 300 ? 'ended' : undefined;
}
