import { OutriderError } from '#core/errors';
import { askWhole } from '#core/http1/whole';
import { headersOf } from '../relay/headers.ts';
import type { Upstream } from '../relay/upstream.ts';
import type { ClientParameters } from '../sessions/sealed-id.ts';
import type { SessionSettings } from './session-settings.ts';

/** A server that takes longer is not the one to go on with. */
const BOUNDS = { timeoutMs: 5_000, maxBytes: 4 * 2 ** 20 };
const HEADERS = [
  'content-type',
  'application/json',
  'accept',
  'application/json, text/event-stream',
];

/**
 * Begins a session at `upstream` as the client once did: `initialize` with its own parameters, `notifications/initialized`, then
 * what it had set. Resolves to the server's id of it; undefined where the server wants another version of the protocol, which the client would
 * not speak.
 * @throws {OutriderError} UPSTREAM_UNREACHABLE where the server does not begin one
 */
export async function initialiseAt(
  upstream: Upstream,
  client: ClientParameters,
  { logLevel, subscriptions }: SessionSettings,
): Promise<string | undefined> {
  const { protocolVersion } = client;
  const begun = await send(upstream, { id: 'outrider-1', method: 'initialize', params: client });
  const { sessionId } = begun;
  if (begun.status !== 200 || sessionId === undefined) throw unwilling();
  if (begun.protocolVersion !== undefined && begun.protocolVersion !== protocolVersion) {
    void endAt(upstream, sessionId);
    return undefined;
  }
  const session = { sessionId, protocolVersion };
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
export async function endAt({ pool, path, host }: Upstream, sessionId: string): Promise<void> {
  try {
    const headers = ['mcp-session-id', sessionId, ...(host === undefined ? [] : ['host', host])];
    await askWhole(pool, { method: 'DELETE', path, headers }, BOUNDS);
  } catch {
    // It will end of itself.
  }
}

async function send(
  { pool, path, host }: Upstream,
  message: object,
  session?: { readonly sessionId: string; readonly protocolVersion: string },
) {
  try {
    const asked = Buffer.from(JSON.stringify({ jsonrpc: '2.0', ...message }));
    const headers = [...HEADERS, ...(host === undefined ? [] : ['host', host])];
    if (session) headers.push('mcp-session-id', session.sessionId);
    if (session) headers.push('mcp-protocol-version', session.protocolVersion);
    const answer = await askWhole(pool, { method: 'POST', path, headers, body: asked }, BOUNDS);
    const sessionId = headersOf(answer.headers)['mcp-session-id'];
    const text = answer.body.toString('utf8');
    return {
      status: answer.status,
      sessionId: typeof sessionId === 'string' ? sessionId : undefined,
      // In JSON and in an event alike; a server that does not say takes what the client asked for.
      protocolVersion: /"protocolVersion"\s*:\s*"([^"]*)"/.exec(text)?.[1],
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
