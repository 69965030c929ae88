import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { type Address, formatAddress, isLoopback } from '#core/address';
import { OutriderError, toOutriderError } from '#core/errors';
import { adminRoutes, answerError, closeServer, listen } from '#core/http';
import { requestIdFrom } from '#core/ids';
import { readSigningKey } from '#core/keys';
import type { Logger } from '#core/log';
import type { Metrics } from '#core/metrics';
import type { Principal } from '#core/principal';
import { createAssertions } from './assertions.ts';
import { createAuthenticator } from './auth/authenticator.ts';
import { AUTH_FAILURES, type AuthFailure, challenge } from './auth/challenge.ts';
import type { GatewayConfig } from './config.ts';
import { createHostOriginCheck, LOOPBACK_HOSTS } from './host-origin.ts';
import { refuse } from './refusal.ts';
import { createBalancer } from './relay/balancer.ts';
import { readBody } from './relay/body.ts';
import { relay } from './relay/relay.ts';
import { serversProblem } from './servers-problem.ts';

export interface GatewayDeps {
  readonly log: Logger;
  readonly metrics: Metrics;
}

export interface Gateway {
  /** Listens; resolves to the address with its real port. @throws {OutriderError} ADDRESS_IN_USE */
  start(): Promise<Address>;
  /** Stops listening, lets calls end for the configured time, then cuts them. */
  stop(): Promise<void>;
}

const METHODS = ['POST', 'GET', 'DELETE'];

/**
 * The front door: authenticates MCP clients and relays `/mcp` to the servers behind it. Keeps nothing between requests but
 * signed assertions, counts and connections.
 * @throws {OutriderError} CONFIG_INVALID
 */
export function createGateway(config: GatewayConfig, { log, metrics }: GatewayDeps): Gateway {
  if (config.servers.length === 0)
    throw new OutriderError('CONFIG_INVALID', 'gateway.servers must name at least one server');
  const checkHostAndOrigin = createHostOriginCheck(config.allowedHosts, config.allowedOrigins);
  const authenticate = createAuthenticator(config, log);
  assertMeantToBeReached(config);
  const assertionFor = createAssertions(readSigningKey(config.signingKey));
  const record = recorder(metrics);
  const balancer = createBalancer(config.servers, metrics);
  const admin = adminRoutes(
    [{ name: 'servers', check: () => serversProblem(balancer.upstreams) }],
    metrics,
  );

  const http = createServer((request, response) => {
    void admin(request, response).then(
      (answered) => {
        if (!answered) handle(request, response);
      },
      (error: unknown) => answerError(response, error),
    );
  });

  // Load balancers keep connections for a minute; the side that closes first makes the other lose a request.
  http.keepAliveTimeout = 65_000;

  /** The one place where a failure becomes an answer, a log record and a number. */
  function handle(request: IncomingMessage, response: ServerResponse): void {
    const started = performance.now();
    const requestId = requestIdFrom(request.headers['x-request-id']);
    response.once('close', () => {
      // 499 as nginx counts it: the client did not wait for the whole answer.
      const status = response.writableFinished ? response.statusCode : 499;
      record.request(status, (performance.now() - started) / 1_000);
    });
    serve(request, response, requestId).catch((thrown: unknown) => {
      const error = toOutriderError(thrown);
      const durationMs = performance.now() - started;
      const fields = { requestId, code: error.code, durationMs, error };
      if (error.failure.http >= 500) log.warn('a request was not served', fields);
      else log.debug('a request was refused', fields);
      refuse(request, response, error, { 'x-request-id': requestId, ...headersOf(error) });
    });
  }

  async function serve(
    request: IncomingMessage,
    response: ServerResponse,
    requestId: string,
  ): Promise<void> {
    if (request.url?.split('?', 1)[0] !== '/mcp') throw new OutriderError('NOT_FOUND', 'not found');
    // Before the token is looked at: a rebound page must not learn whether it holds a good one.
    checkHostAndOrigin(request.headers.host, request.headers.origin);
    if (!METHODS.includes(request.method ?? ''))
      throw new OutriderError('METHOD_NOT_ALLOWED', 'use POST, GET or DELETE');
    // Before the body is read: a stranger's bytes are not kept.
    const principal = await admit(request.headers.authorization);
    const body = await readBody(request, config.maxBody);
    const assertion = await assertionFor(principal);
    await relay({ request, response, body, requestId, assertion }, balancer);
  }

  /** @throws {OutriderError} UNAUTHENTICATED | INSUFFICIENT_SCOPE | UPSTREAM_UNREACHABLE */
  async function admit(authorization: string | undefined): Promise<Principal> {
    const verdict = await authenticate(authorization);
    if (verdict.ok) return verdict.principal;
    record.authFailure(verdict.reason);
    throw new Refused(verdict.reason, verdict.scopes, verdict.cause);
  }

  return {
    start: () => listen(http, config.listen),
    async stop() {
      await closeServer(http, config.drainTimeout);
      await balancer.close();
    },
  };
}

/** Who opens the gateway to other machines says by which name, and so thought of it. @throws {OutriderError} CONFIG_INVALID */
function assertMeantToBeReached({ listen: address, allowedHosts }: GatewayConfig): void {
  const names = new Set(allowedHosts);
  const asByDefault =
    names.size === LOOPBACK_HOSTS.length && LOOPBACK_HOSTS.every((name) => names.has(name));
  if (!isLoopback(address) && asByDefault)
    throw new OutriderError(
      'CONFIG_INVALID',
      `gateway.listen: ${formatAddress(address)} can be reached from other machines, and no client there could call it: end TLS in front of the gateway, because tokens reach it in clear, and name what clients call it by in gateway.allowedHosts`,
    );
}

/** A caller who was not let in, with the challenge that tells it what would help. */
class Refused extends OutriderError {
  readonly challenge: string | undefined;

  constructor(reason: AuthFailure, scopes: readonly string[], cause: unknown) {
    super(codeOf(reason), AUTH_FAILURES[reason], { cause: cause ?? reason });
    this.challenge = challenge(reason, scopes);
  }
}

function codeOf(
  reason: AuthFailure,
): 'UNAUTHENTICATED' | 'INSUFFICIENT_SCOPE' | 'UPSTREAM_UNREACHABLE' {
  if (reason === 'scope') return 'INSUFFICIENT_SCOPE';
  return reason === 'keys_unavailable' ? 'UPSTREAM_UNREACHABLE' : 'UNAUTHENTICATED';
}

function headersOf(error: OutriderError): Record<string, string> {
  if (error.code === 'METHOD_NOT_ALLOWED') return { allow: METHODS.join(', ') };
  return error instanceof Refused && error.challenge !== undefined
    ? { 'www-authenticate': error.challenge }
    : {};
}

function recorder(metrics: Metrics) {
  const requests = metrics.counter('outrider_requests_total', 'Requests by status', ['status']);
  const durations = metrics.histogram(
    'outrider_request_duration_seconds',
    'Time from a request to the end of its answer; a stream counts for as long as it is open',
  );
  const failures = metrics.counter('outrider_auth_failures_total', 'Callers not let in', [
    'reason',
  ]);
  return {
    request(status: number, seconds: number) {
      requests.inc({ status: String(status) });
      durations.observe(seconds);
    },
    authFailure: (reason: AuthFailure) => failures.inc({ reason }),
  };
}
