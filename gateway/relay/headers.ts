import type { IncomingHttpHeaders } from 'node:http';
import { madeOnce } from '#core/made-once';

/** By name in lower case; of one that comes more than once the first, as no header that is read here may. Frozen. */
export const headersOf: (flat: readonly string[]) => Readonly<IncomingHttpHeaders> = madeOnce(
  (flat: readonly string[]) => {
    const headers: IncomingHttpHeaders = Object.create(null);
    for (let at = 0; at < flat.length; at += 2) {
      headers[(flat[at] ?? '').toLowerCase()] ??= flat[at + 1];
    }
    return Object.freeze(headers);
  },
);

const REQUEST_HEADERS: ReadonlySet<string> = new Set([
  'accept',
  'last-event-id',
  'traceparent',
  'tracestate',
]);
const RESPONSE_HEADERS: ReadonlySet<string> = new Set([
  'content-type',
  'content-length',
  'content-encoding',
  'cache-control',
  'x-accel-buffering',
  'allow',
  'retry-after',
]);
const SESSION_ID = 'mcp-session-id';

/** What belongs to MCP, today and later: `Mcp-Method`, `Mcp-Param-*`, ... but the session's id, which differs on both sides. */
const isMcp = (name: string): boolean => name.startsWith('mcp-') && name !== SESSION_ID;

/** What the gateway says itself; what is undefined is not said. */
export interface OwnHeaders {
  readonly requestId: string;
  /** Towards a server only. */
  readonly assertion?: string | undefined;
  readonly sessionId?: string | undefined;
  /** Towards a server only, where it is called by another name than its address. */
  readonly host?: string | undefined;
  /** Towards a server only: what its body is, whatever the client calls it. */
  readonly contentType?: string | undefined;
}

/**
 * The headers that a server gets, as a flat list: those of the protocol and of tracing, and the gateway's own. Nothing else
 * passes, so no credential of the client and nothing hop-by-hop can.
 */
export function requestHeaders(from: IncomingHttpHeaders, own: OwnHeaders): string[] {
  const list = [...toServer(from)];
  if (own.contentType !== undefined) list.push('content-type', own.contentType);
  if (own.host !== undefined) list.push('host', own.host);
  if (own.assertion !== undefined) list.push('authorization', `Bearer ${own.assertion}`);
  return withOwn(list, own);
}

/**
 * The headers that a client gets, as a flat list. A server can neither set a cookie nor redirect. `rewritten`: the body will
 * not have the length that the server says, and is for this client alone.
 */
export function responseHeaders(
  from: IncomingHttpHeaders,
  own: OwnHeaders,
  rewritten = false,
): string[] {
  return withOwn([...(rewritten ? toClientAnew(from) : toClient(from))], own);
}

const toServer = madeOnce((from: IncomingHttpHeaders) => passed(from, REQUEST_HEADERS));
const toClient = madeOnce((from: IncomingHttpHeaders) => passed(from, RESPONSE_HEADERS));

function toClientAnew(from: IncomingHttpHeaders): string[] {
  const { 'cache-control': said, 'content-length': _, ...rest } = from;
  const list = passed(rest, RESPONSE_HEADERS);
  if (said !== undefined) list.push('cache-control', privately(said));
  return list;
}

/** Of these and of MCP's what there is, as a flat list. */
function passed(from: IncomingHttpHeaders, names: ReadonlySet<string>): string[] {
  const list: string[] = [];
  for (const name of Object.keys(from))
    if (names.has(name) || isMcp(name)) pass(list, name, from[name]);
  return list;
}

/** What of Cache-Control (RFC 9111 section 5.2.2) is left for the client's own cache; what is for shared ones, or not known, is not. */
function privately(said: string): string {
  const own = /^(?:max-age=\d+|no-cache|no-store|no-transform|must-revalidate)$/i;
  const kept = said.split(',').map((directive) => directive.trim());
  return ['private', ...kept.filter((directive) => own.test(directive))].join(', ');
}

function withOwn(list: string[], { requestId, sessionId }: OwnHeaders): string[] {
  list.push('x-request-id', requestId);
  if (sessionId !== undefined) list.push(SESSION_ID, sessionId);
  return list;
}

function pass(list: string[], name: string, value: string | string[] | undefined): void {
  if (typeof value === 'string') list.push(name, value);
  else for (const item of value ?? []) list.push(name, item);
}
