import { toOutriderError } from '#core/errors';
import type { HttpRequest, HttpResponse } from '#core/http-exchange';
import { isIdSpace } from '#core/ids';
import type { Principal } from '#core/principal';
import type { GatewayAudit } from './audit.ts';
import type { CallFacts, CallResult } from './call-record.ts';
import type { Recovery } from './recovery/recovery.ts';
import type { Balancer } from './relay/balancer.ts';
import { readBody } from './relay/body.ts';
import { AnswerWatch } from './relay/call-outcome.ts';
import { assertHeadersAgree, eraOf } from './relay/era.ts';
import { type Message, readMessages, toolOf } from './relay/message.ts';
import { type Admitted, type Relayed, relay } from './relay/relay.ts';
import { rewriteMessages } from './relay/rewrite.ts';
import type { ClientParameters } from './sessions/sealed-id.ts';
import type { SessionEnd, Sessions } from './sessions/sessions.ts';
import {
  assertMayCall,
  assertReadable,
  onlyCallable,
  type ToolRights,
} from './tools/tool-rights.ts';

export interface ServeDeps {
  readonly balancer: Balancer;
  readonly sessions: Sessions;
  /** Absent: a session ends with its server. */
  readonly recovery: Recovery | undefined;
  readonly mayRepeat: (messages: readonly Message[]) => boolean;
  readonly maxBody: number;
  /** Whether the servers are ours: then an id space is no session, and passes as it is. */
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
  const idSpace = deps.ours && isIdSpace(sessionId) ? sessionId : undefined;
  const session =
    idSpace === undefined && sessionId !== undefined
      ? deps.sessions.open(String(sessionId), principal)
      : undefined;
  const body = await readBody(request, deps.maxBody);
  const started = performance.now();
  const messages = readMessages(body);
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
  try {
    assertHeadersAgree(request.headers, messages);
    const rights = deps.rightsOf(principal);
    assertReadable(rights, body, messages);
    assertMayCall(rights, messages);
    if (calls) deps.audit.assertWritable();
    const assertion = deps.assertionFor(principal);
    relayed = await relay(
      {
        request,
        response,
        body,
        requestId,
        assertion: assertion === undefined ? undefined : await assertion,
        session,
        idSpace,
        // A body that cannot be read may be anything.
        again: (body.length === 0 || messages.length > 0) && deps.mayRepeat(messages),
        begin: era === 'modern' ? undefined : beginFor(principal, messages, deps),
        rewrite: rewriteFor(rights, request, messages),
        watch: calls ? (piece) => watch.see(piece) : undefined,
      },
      deps.balancer,
      deps.recovery,
    );
    if (relayed.failedOver) deps.failedOver();
    if (session) deps.recovery?.note(session, messages);
    const end = session && endOf(request.method, relayed.status);
    if (session && end) {
      deps.sessions.end(session, end);
      deps.recovery?.forget(session);
    }
    deps.record(facts, {
      outcome: relayed.complete ? watch.outcome(relayed.status) : 'cancelled',
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
      upstreamMs: undefined,
      bytesOut: 0,
    });
    throw error;
  }
}

function beginFor(
  principal: Principal,
  messages: readonly Message[],
  { sessions, ours }: ServeDeps,
): Admitted['begin'] {
  return ({ url }, upstreamId) => {
    // No server of ours keeps it, so any of them may have what comes in it.
    if (ours && isIdSpace(upstreamId)) return upstreamId;
    const client = messages.map(clientOf).find((found) => found !== undefined);
    return sessions.begin(url.href, upstreamId, principal, client);
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
  { names }: ToolRights,
  request: HttpRequest,
  messages: readonly Message[],
): Admitted['rewrite'] {
  if (names === 'any') return undefined;
  const lists = messages.some(({ method }) => method === 'tools/list');
  if (!lists && request.method !== 'GET') return undefined;
  return (headers) => rewriteMessages(headers, onlyCallable(names));
}

/** What an answer says of the session's end. The 404 of a GET may be that of a server without event streams. */
function endOf(method: string | undefined, status: number | undefined): SessionEnd | undefined {
  if (status === 404 && (method === 'POST' || method === 'DELETE')) return 'lost';
  return method === 'DELETE' && status !== undefined && status < 300 ? 'ended' : undefined;
}
