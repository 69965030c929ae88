import type { IncomingHttpHeaders } from 'node:http';

const REQUEST_HEADERS: ReadonlySet<string> = new Set([
  'content-type',
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

/** What belongs to MCP, today and later: `Mcp-Session-Id`, `Mcp-Method`, `Mcp-Param-*`, ... */
const isMcp = (name: string): boolean => name.startsWith('mcp-');

/**
 * The headers that a server gets, as a flat list: those of the protocol and of tracing, and the gateway's own two. Nothing
 * else passes, so no credential of the client and nothing hop-by-hop can.
 */
export function requestHeaders(
  from: IncomingHttpHeaders,
  own: { readonly assertion: string; readonly requestId: string },
): string[] {
  return [
    ...passed(from, (name) => REQUEST_HEADERS.has(name) || isMcp(name)),
    'authorization',
    `Bearer ${own.assertion}`,
    'x-request-id',
    own.requestId,
  ];
}

/** The headers that a client gets, as a flat list. A server can neither set a cookie nor redirect. */
export function responseHeaders(from: IncomingHttpHeaders, requestId: string): string[] {
  return [
    ...passed(from, (name) => RESPONSE_HEADERS.has(name) || isMcp(name)),
    'x-request-id',
    requestId,
  ];
}

function passed(from: IncomingHttpHeaders, allowed: (name: string) => boolean): string[] {
  return Object.entries(from).flatMap(([name, value]) =>
    value === undefined || !allowed(name) ? [] : [value].flat().flatMap((item) => [name, item]),
  );
}
