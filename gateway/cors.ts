import type { HttpRequest, HttpResponse } from '#core/http-exchange';

const METHODS = 'POST, GET, DELETE';
/** Beside those of the protocol, `Mcp-*`, which are let in by what they begin with. */
const HEADERS = [
  'authorization',
  'content-type',
  'accept',
  'last-event-id',
  'mcp-protocol-version',
  'mcp-session-id',
  'mcp-method',
  'mcp-name',
  'traceparent',
  'tracestate',
  'x-request-id',
];
const EXPOSED = 'mcp-session-id, www-authenticate, x-request-id, retry-after';
/** Less than a person waits who has changed `allowedOrigins`. */
const KEPT_S = '600';

/** Lets pages of `origin`, which must be an allowed one, read the answer (the CORS protocol of Fetch). */
export function openTo(response: HttpResponse, origin: string): void {
  response.setHeader('access-control-allow-origin', origin);
  response.setHeader('access-control-expose-headers', EXPOSED);
  response.setHeader('vary', 'origin');
}

/** Whether a browser asks if a page may send what it is about to. */
export function isPreflight({ method, headers }: HttpRequest): boolean {
  return (
    method === 'OPTIONS' &&
    headers.origin !== undefined &&
    headers['access-control-request-method'] !== undefined
  );
}

/** Answers that it may send what MCP needs; browsers hold their request against it. The answer must be open to the page. */
export function answerPreflight({ headers }: HttpRequest, response: HttpResponse): void {
  const wanted = (headers['access-control-request-headers'] ?? '').toLowerCase();
  const further = wanted.split(',').map((name) => name.trim());
  const allowed = new Set([...HEADERS, ...further.filter((name) => /^mcp-[\w-]+$/.test(name))]);
  response
    .writeHead(204, {
      'access-control-allow-methods': METHODS,
      'access-control-allow-headers': [...allowed].join(', '),
      'access-control-max-age': KEPT_S,
    })
    .end();
}
