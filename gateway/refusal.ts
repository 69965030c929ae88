import type { OutriderError } from '#core/errors';
import { answerJson } from '#core/http';
import type { HttpRequest, HttpResponse } from '#core/http-exchange';
import { ProtocolError, rpcError } from './relay/protocol-error.ts';

/** How long a refused body is still read, so that the client gets to see the answer. */
const LINGER_MS = 2_000;

/** Answers for the gateway itself, as the JSON-RPC error that MCP clients show, with our code under `data`. */
export function refuse(
  request: HttpRequest,
  response: HttpResponse,
  error: OutriderError,
  headers: Readonly<Record<string, string>> = {},
): void {
  // An event stream that had begun has said it already.
  if (response.writableEnded) return;
  if (response.headersSent || response.destroyed) {
    response.destroy();
    return;
  }
  const wait = error.retryAfterMs;
  const id = error instanceof ProtocolError ? error.rpcId : null;
  answerJson(
    response,
    error.failure.http,
    { jsonrpc: '2.0', id, error: rpcError(error) },
    {
      ...(wait === undefined
        ? {}
        : { 'retry-after': String(Math.max(1, Math.ceil(wait / 1_000))) }),
      ...headers,
    },
  );
  discardRest(request);
}

/** A socket closed with unread bytes is reset, which can destroy the answer on its way. Reads on for a while, then cuts. */
function discardRest(request: HttpRequest): void {
  if (request.complete || request.destroyed) return;
  // Once its answer is out, a request no longer hears of its socket's end.
  const { socket } = request;
  const timer = setTimeout(() => socket.destroy(), LINGER_MS);
  const done = () => {
    clearTimeout(timer);
    request.off('end', done);
    socket.off('close', done);
  };
  request.once('end', done);
  socket.once('close', done);
  request.resume();
}
