import type { IncomingMessage, ServerResponse } from 'node:http';
import { toNodeHandler } from '@modelcontextprotocol/node';
import { type AuthInfo, createMcpHandler, McpServer } from '@modelcontextprotocol/server';
import type { Address } from '#core/address';
import { giveNotice } from '#core/drain-notice';
import { OutriderError } from '#core/errors';
import { adminRoutes, answerError, closeServer, listen } from '#core/http';
import { newId, requestIdFrom } from '#core/ids';
import { readTrustedIssuers } from '#core/keys';
import type { Logger } from '#core/log';
import type { Metrics } from '#core/metrics';
import { createServer } from '#core/node-http';
import { packageVersion } from '#core/package-root';
import { principalKey } from '#core/principal';
import { AssertionVerifier } from '#core/tokens';
import { addArtefacts } from './artefacts.ts';
import { hearCancellations, idSpaceOf } from './cancellation.ts';
import type { ServerConfig } from './config.ts';
import { addDatasources } from './datasources.ts';
import { addExecutePython } from './execute-python.ts';
import { answerInvalidParams } from './invalid-params.ts';
import { Listeners } from './listeners.ts';
import { addManageSession } from './manage-session.ts';
import type { Observe } from './program-tool.ts';
import { addRunJs } from './run-js.ts';
import { addRunShell } from './run-shell.ts';
import { connectRunners } from './runners.ts';

export interface ServerDeps {
  readonly log: Logger;
  readonly metrics: Metrics;
}

export interface RunningServer {
  /** Listens; resolves to the address with its real port. @throws {OutriderError} ADDRESS_IN_USE */
  start(): Promise<Address>;
  /** Gives notice, stops listening, lets calls end for the configured time, then cuts them. */
  stop(): Promise<void>;
}

/** The first version of MCP without sessions. */
const FIRST_WITHOUT_SESSIONS = '2026-07-28';
const RUNNER_ANSWERS_WITHIN_MS = 1_500;
/** A gateway keeps an idle connection for 2.5 s: after these none is left on which it could lose a call. */
const GATEWAYS_KEEP_IDLE_MS = 4_500;
/** The side that closes an idle connection first makes the other lose a call: let it be the gateways. */
const KEEP_ALIVE_MS = 65_000;

/**
 * Our MCP server: both eras of the protocol on `/mcp`, one fresh MCP instance a request, nothing kept between requests, so
 * that any replica answers anything. Only callers with a principal assertion of a trusted gateway are served.
 * @throws {OutriderError} CONFIG_INVALID
 */
export function createMcpServer(config: ServerConfig, { log, metrics }: ServerDeps): RunningServer {
  const verifier = new AssertionVerifier(readTrustedIssuers(config.assertionIssuers));
  const runner = connectRunners(config.runner, log);
  const observe = observer(metrics);
  const listeners = new Listeners(runner, log);
  const version = packageVersion();

  const mcp = createMcpHandler(
    ({ era, authInfo, requestInfo }) => {
      const listens = era === 'modern';
      const server = new McpServer(
        { name: 'outrider', title: 'Outrider', version },
        // Which files there are is told by the tools; which datasources, to clients that listen. One of the session era cannot: what is
        // not said here the SDK would promise.
        {
          capabilities: {
            tools: { listChanged: listens },
            resources: { listChanged: listens, subscribe: listens },
          },
        },
      );
      answerInvalidParams(server.server);
      const caller = {
        assertion: authInfo?.token ?? '',
        owner: ownerOf(authInfo),
        requestId: requestIdFrom(requestInfo?.headers.get('x-request-id')),
        idSpace: era === 'legacy' ? idSpaceOf(requestInfo?.headers) : undefined,
      };
      if (caller.idSpace !== undefined) hearCancellations(server, runner, caller, log);
      const deps = { server, runner, caller, observe };
      addExecutePython(deps);
      addRunJs(deps);
      addRunShell(deps);
      addManageSession(deps);
      addArtefacts(deps);
      addDatasources(deps);
      return server;
    },
    {
      legacy: 'stateless',
      bus: listeners,
      // A program may run for minutes: an open event stream carries keep-alives, a pending JSON answer would look dead.
      responseMode: 'sse',
      maxRequestBodySize: config.maxBody,
      onerror: (error) => log.debug('an MCP request failed', { error }),
    },
  );
  const answerMcp = toNodeHandler(mcp, {
    maxRequestBodySize: config.maxBody,
    onerror: (error) => log.error('an MCP request could not be served', { error }),
  });
  const admin = adminRoutes(
    [
      { name: 'runner', check: () => runner.problem(RUNNER_ANSWERS_WITHIN_MS) },
      { name: 'server', check: () => (stopping ? 'it is about to stop' : undefined) },
    ],
    metrics,
  );

  let stopping = false;
  let requestedAt = 0;

  const http = createServer((request, response) => {
    serve(request, response).catch((thrown: unknown) => {
      const error = answerError(response, thrown, challengeFor(thrown));
      if (error.failure.http >= 500) log.error('a request failed', { error });
    });
  });

  http.keepAliveTimeout = KEEP_ALIVE_MS;

  async function serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    if (await admin(request, response)) return;
    if (request.url?.split('?', 1)[0] !== '/mcp') throw new OutriderError('NOT_FOUND', 'not found');
    requestedAt = performance.now();
    const auth = await authenticate(request, verifier);
    if (mayInitialize(request)) response.setHeader('mcp-session-id', newId('ids'));
    const hearer = {
      assertion: auth.token,
      owner: ownerOf(auth),
      requestId: requestIdFrom(request.headers['x-request-id']),
      end: () => void response.once('error', () => {}).end(), // a keep-alive may still be on its way
    };
    await listeners.serving(hearer, () =>
      answerMcp(
        {
          method: request.method ?? 'GET',
          url: request.url ?? '',
          headers: request.headers,
          auth,
          [Symbol.asyncIterator]: () => request[Symbol.asyncIterator](),
        },
        stopping ? lastOn(response) : response,
      ),
    );
  }

  return {
    start: () => listen(http, config.listen),
    async stop() {
      stopping = true;
      const leftMs = await giveNotice(config, () => requestedAt);
      listeners.endAll();
      await closeServer(http, leftMs, GATEWAYS_KEEP_IDLE_MS);
      await mcp.close();
      runner.close();
    },
  };
}

/** The SDK says `connection: keep-alive` with an event stream, and a gateway would believe it until it loses a call. */
function lastOn(response: ServerResponse): Parameters<ReturnType<typeof toNodeHandler>>[1] {
  return {
    writeHead: (status, headers) => response.writeHead(status, { ...headers, connection: 'close' }),
    write: (chunk) => response.write(chunk),
    end: (chunk) => response.end(chunk),
    on: (event, listener) => response.on(event, listener),
    get destroyed() {
      return response.destroyed;
    },
  };
}

/**
 * Whether a request can be the `initialize` of a client of the session era: it has no session yet, and no version that knows none. The
 * session that such a client is told is no more than the space of its ids: nothing is kept of it here, and gateways say when it is over.
 */
function mayInitialize({ method, headers }: IncomingMessage): boolean {
  const version = headers['mcp-protocol-version'];
  return (
    method === 'POST' &&
    headers['mcp-session-id'] === undefined &&
    (version === undefined || version < FIRST_WITHOUT_SESSIONS)
  );
}

/** @throws {OutriderError} UNAUTHENTICATED */
async function authenticate(
  request: IncomingMessage,
  verifier: AssertionVerifier,
): Promise<AuthInfo> {
  const token = /^bearer (\S+)$/i.exec(request.headers.authorization ?? '')?.[1];
  if (token === undefined)
    throw new OutriderError('UNAUTHENTICATED', 'only a gateway of the mesh is served here');
  const { principal, expiresAt } = await verifier.verify(token);
  const extra = { owner: principalKey(principal) };
  return { token, clientId: principal.subject, scopes: [], expiresAt, extra };
}

function ownerOf(authInfo: AuthInfo | undefined): string {
  const owner = authInfo?.extra?.['owner'];
  return typeof owner === 'string' ? owner : '';
}

function challengeFor(thrown: unknown): Record<string, string> {
  return thrown instanceof OutriderError && thrown.code === 'UNAUTHENTICATED'
    ? { 'www-authenticate': 'Bearer realm="outrider:mesh"' }
    : {};
}

function observer(metrics: Metrics): Observe {
  const calls = metrics.counter('outrider_tool_calls_total', 'Tool calls by their outcome', [
    'tool',
    'outcome',
  ]);
  const durations = metrics.histogram('outrider_tool_duration_seconds', 'Time of tool calls', [
    'tool',
  ]);
  return (tool, outcome, seconds) => {
    calls.inc({ tool, outcome });
    durations.observe({ tool }, seconds);
  };
}
