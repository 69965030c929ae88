import { OutriderError } from '#core/errors';
import type { Upstream } from '../relay/upstream.ts';
import type { ClientParameters } from '../sessions/sealed-id.ts';
import type { SessionSettings } from './session-settings.ts';

/** A server that takes longer is not the one to go on with. */
const ANSWERS_WITHIN_MS = 5_000;

/**
 * Begins a session at `upstream` as the client once did: `initialize` with its own parameters, `notifications/initialized`, then
 * what it had set. Resolves to the server's id of it.
 * @throws {OutriderError} UPSTREAM_UNREACHABLE where the server does not begin one
 */
export async function initialiseAt(
  upstream: Upstream,
  client: ClientParameters,
  { logLevel, subscriptions }: SessionSettings,
): Promise<string> {
  const begun = await send(upstream, { id: 'outrider-1', method: 'initialize', params: client });
  const { sessionId, protocolVersion } = begun;
  if (begun.status !== 200 || sessionId === undefined) throw unwilling();
  const session = { sessionId, protocolVersion: protocolVersion ?? client.protocolVersion };
  const told = await send(upstream, { method: 'notifications/initialized' }, session);
  if (told.status >= 300) throw unwilling();
  if (logLevel !== undefined)
    await send(
      upstream,
      { id: 'outrider-2', method: 'logging/setLevel', params: { level: logLevel } },
      session,
    );
  for (const [index, uri] of subscriptions.entries())
    await send(
      upstream,
      { id: `outrider-${index + 3}`, method: 'resources/subscribe', params: { uri } },
      session,
    );
  return sessionId;
}

/** Ends a session that nobody will use: another gateway was faster. Never rejects. */
export async function endAt({ pool, url, host }: Upstream, sessionId: string): Promise<void> {
  try {
    const { body } = await pool.request({
      method: 'DELETE',
      path: url.pathname,
      headers: { 'mcp-session-id': sessionId, ...(host === undefined ? {} : { host }) },
      signal: AbortSignal.timeout(ANSWERS_WITHIN_MS),
    });
    await body.dump();
  } catch {
    // It will end of itself.
  }
}

async function send(
  { pool, url, host }: Upstream,
  message: object,
  session?: { readonly sessionId: string; readonly protocolVersion: string },
) {
  try {
    const { statusCode, headers, body } = await pool.request({
      method: 'POST',
      path: url.pathname,
      headers: {
        'content-type': 'application/json',
        accept: 'application/json, text/event-stream',
        ...(host === undefined ? {} : { host }),
        ...(session === undefined
          ? {}
          : {
              'mcp-session-id': session.sessionId,
              'mcp-protocol-version': session.protocolVersion,
            }),
      },
      body: JSON.stringify({ jsonrpc: '2.0', ...message }),
      signal: AbortSignal.timeout(ANSWERS_WITHIN_MS),
    });
    const answer = await body.text();
    const sessionId = headers['mcp-session-id'];
    return {
      status: statusCode,
      sessionId: typeof sessionId === 'string' ? sessionId : undefined,
      // In JSON and in an event alike; a server that does not say takes what the client asked for.
      protocolVersion: /"protocolVersion"\s*:\s*"([\d-]+)"/.exec(answer)?.[1],
    };
  } catch (error) {
    throw new OutriderError('UPSTREAM_UNREACHABLE', 'the session cannot be begun again', {
      cause: error,
    });
  }
}

function unwilling(): OutriderError {
  return new OutriderError('UPSTREAM_UNREACHABLE', 'the session cannot be begun again');
}
