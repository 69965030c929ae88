import type { Address } from '#core/address';
import { giveNotice } from '#core/drain-notice';
import { type ErrorCode, OutriderError, toOutriderError } from '#core/errors';
import { adminRoutes, answerError, answerJson, closeServer, listen } from '#core/http';
import type { HttpRequest, HttpResponse } from '#core/http-exchange';
import { PlainServer } from '#core/http1/plain-server';
import { requestIdFrom } from '#core/ids';
import { readSigningKey } from '#core/keys';
import type { Logger } from '#core/log';
import type { Metrics } from '#core/metrics';
import { createServer } from '#core/node-http';
import { OpenList } from '#core/open-list';
import type { Principal } from '#core/principal';
import { hostOf, pathOf } from '#core/request-target';
import { configuredPolicies, PolicyStore } from '#policystore';
import { createAdmission, Refused } from './admission.ts';
import { createAssertions } from './assertions.ts';
import { type GatewayAudit, openAudit } from './audit.ts';
import { createAuthenticator } from './auth/authenticator.ts';
import type { AuthFailure } from './auth/challenge.ts';
import { resourceMetadata, scopesOf } from './auth/resource-metadata.ts';
import { createCallRecorder } from './call-record.ts';
import { changedKeys, type GatewayConfig, RELOADABLE } from './config.ts';
import { assertGatewayConfig } from './config-check.ts';
import { answerPreflight, isPreflight, openTo } from './cors.ts';
import { createHostOriginCheck } from './host-origin.ts';
import { createLimits, type PrincipalLimits } from './limits.ts';
import { mayRepeat } from './recovery/may-repeat.ts';
import { openShared, type Shared } from './recovery/open.ts';
import { refuse } from './refusal.ts';
import { createRefusalRecorder, isDenial, type RefusalRecorder } from './refusal-record.ts';
import { type ServeDeps, serveMcp } from './serve.ts';
import { createServers } from './servers.ts';
import { openKeyRing } from './sessions/key-ring.ts';
import { createSessions } from './sessions/sessions.ts';
import { rightsByPrincipal, type ToolRights } from './tools/tool-rights.ts';

export interface GatewayDeps {
  readonly log: Logger;
  readonly metrics: Metrics;
}

export interface Gateway {
  /** Listens; resolves to the address with its real port. @throws {OutriderError} ADDRESS_IN_USE, CONFIG_INVALID, POLICY_INVALID, ERR_OAUTH_PROVIDER */
  start(): Promise<Address>;
  /**
   * Takes over what of `config` can change while it runs (`RELOADABLE`), without touching a call; the log says what cannot.
   * @throws {OutriderError} CONFIG_INVALID, and nothing has changed
   */
  reload(config: GatewayConfig): Promise<void>;
  /** Gives notice, stops listening, cuts event streams, lets calls end for the configured time, then cuts them. */
  stop(): Promise<void>;
}

const METHODS = ['POST', 'GET', 'DELETE'];
const ROUTE = '/mcp';
/** As Node has it by default. */
const HEADER_MAX_BYTES = 16_384;
/** Whoever asks a server whether it is well; no Role names it. */
const ITSELF: Principal = {
  issuer: 'outrider:gateway',
  subject: 'health',
  tenant: '',
  groups: [],
  claims: {},
};
const EVERY_TOOL: ToolRights = { tools: 'any' };

/**
 * The front door: authenticates MCP clients and relays `/mcp` to the servers behind it. Keeps nothing between requests but
 * signed assertions, counts and connections: a session is in its own id.
 * @throws {OutriderError} CONFIG_INVALID
 */
export function createGateway(config: GatewayConfig, { log, metrics }: GatewayDeps): Gateway {
  assertGatewayConfig(config);
  const checkHostAndOrigin = createHostOriginCheck(config.allowedHosts, config.allowedOrigins);
  const authenticator = createAuthenticator(config, log);
  const signed = createAssertions(readSigningKey(config.signingKey));
  const ours = config.serversAre === 'ours';
  const record = recorder(metrics);
  const metadata = resourceMetadata(config);
  const admit = createAdmission(
    authenticator.authenticate,
    { metadata: metadata?.url, scopes: scopesOf(config.issuers) },
    record.authFailure,
  );
  let running = config;
  let enter = createLimits(limitsOf(config));
  const servers = createServers(config, {
    log,
    metrics,
    assertion: async () => (ours ? signed(ITSELF) : undefined),
  });
  const ring = openKeyRing(config.sessionKeys, config.listen, log);
  let safeTools = new Set(config.safeTools);
  const admin = adminRoutes(
    [
      { name: 'servers', check: () => servers.problem() },
      { name: 'gateway', check: () => (stopping ? 'it is about to stop' : undefined) },
    ],
    metrics,
  );
  let shared: Shared | undefined;
  let audit: GatewayAudit | undefined;
  let refusals: RefusalRecorder | undefined;
  let policies: PolicyStore | undefined;
  let serving: ServeDeps | undefined;
  let stopping: Promise<void> | undefined;
  let requestedAt = 0;
  const open = new OpenList<HttpResponse>();

  const http = createServer((request, response) => {
    if (request.url === ROUTE) {
      handle(request, response);
      return;
    }
    void admin(request, response).then(
      (answered) => {
        if (!answered) handle(request, response);
      },
      (error: unknown) => answerError(response, error),
    );
  });

  PlainServer.of(http, HEADER_MAX_BYTES);
  // Load balancers keep connections for a minute; the side that closes first makes the other lose a request.
  http.keepAliveTimeout = 65_000;

  /** The one place where a failure becomes an answer, a log record and a number. */
  function handle(request: HttpRequest, response: HttpResponse): void {
    const started = performance.now();
    requestedAt = started;
    const requestId = requestIdFrom(request.headers['x-request-id']);
    open.add(response);
    if (stopping) response.setHeader('connection', 'close');
    response.on('close', () => {
      open.delete(response);
      if (stopping) request.socket.end();
      // 499 as nginx counts it: the client did not wait for the whole answer.
      const status = response.writableFinished ? response.statusCode : 499;
      record.request(status, (performance.now() - started) / 1_000);
    });
    const progress: Progress = { isUnread: false, principal: undefined };
    serve(request, response, requestId, progress).catch((thrown: unknown) => {
      const error = toOutriderError(thrown);
      const durationMs = performance.now() - started;
      const fields = { requestId, code: error.code, durationMs, error };
      if (error.failure.http >= 500) log.warn('a request was not served', fields);
      else log.debug('a request was refused', fields);
      if (isDenial(error.code, error.failure.http)) record.denied(error.code);
      const { method, headers } = request;
      if (progress.isUnread)
        refusals?.record(
          {
            requestId,
            method,
            traceparent: headers['traceparent'],
            principal: progress.principal,
          },
          error,
          durationMs,
        );
      refuse(request, response, error, { 'x-request-id': requestId, ...headersOf(error) });
    });
  }

  async function serve(
    request: HttpRequest,
    response: HttpResponse,
    requestId: string,
    progress: Progress,
  ): Promise<void> {
    const path = request.url === ROUTE ? ROUTE : pathOf(request);
    progress.isUnread = path === ROUTE && serving !== undefined;
    const { method, headers } = request;
    const { origin } = headers;
    const host = hostOf(request);
    if (metadata?.paths.has(path) && (method === 'GET' || isPreflight(request))) {
      if (origin !== undefined) {
        checkHostAndOrigin(host, origin);
        openTo(response, origin);
      }
      if (method === 'GET') answerJson(response, 200, metadata.document);
      else answerPreflight(request, response);
      return;
    }
    if (path !== ROUTE || !serving) throw new OutriderError('NOT_FOUND', 'not found');
    // Before the token is looked at: a rebound page must not learn whether it holds a good one.
    checkHostAndOrigin(host, origin);
    // Where nobody needs a token, a page would need nothing but to be open in a browser of this machine.
    const mayOpen = !config.insecure;
    if (origin !== undefined && mayOpen) openTo(response, origin);
    if (mayOpen && isPreflight(request)) {
      answerPreflight(request, response);
      return;
    }
    if (!METHODS.includes(method ?? ''))
      throw new OutriderError('METHOD_NOT_ALLOWED', 'use POST, GET or DELETE');
    // Before the body is read: a stranger's bytes are not kept.
    const admitted = admit(headers.authorization);
    const principal = admitted instanceof Promise ? await admitted : admitted;
    progress.principal = principal;
    const leave = enter(principal);
    try {
      const onRead = () => {
        progress.isUnread = false;
      };
      await serveMcp({ request, response, requestId, principal, onRead }, serving);
    } finally {
      leave();
    }
  }

  async function stop(): Promise<void> {
    // A client that kept its connection would send the next request on it, and lose that one when the time is over.
    for (const response of open)
      if (!response.headersSent) response.setHeader('connection', 'close');
    const leftMs = await giveNotice(config, () => requestedAt);
    // Its client goes on behind the last event that came, at another gateway.
    for (const response of open) if (isEventStream(response.req)) response.destroy();
    await closeServer(http, leftMs);
    await servers.close();
    shared?.close();
    await policies?.close();
    refusals?.close();
    await audit?.close();
  }

  return {
    async start() {
      await authenticator.ready();
      await servers.start();
      const { policies: at } = config;
      if (at !== undefined) {
        const source = configuredPolicies('gateway', { ...config, policies: at });
        policies = await PolicyStore.open({ source, log, metrics });
      }
      shared = openShared(config, servers.balancer, ring, log, metrics);
      const { news, ended, recovery } = shared;
      const sessions = createSessions({
        ring,
        route: ROUTE,
        lifeMs: config.sessionMax,
        metrics,
        ended,
      });
      await news.start();
      audit = openAudit(config, log, metrics);
      refusals = createRefusalRecorder(audit);
      const rightsIn = rightsByPrincipal();
      serving = {
        balancer: servers.balancer,
        sessions,
        recovery,
        mayRepeat: (messages) => mayRepeat(messages, safeTools),
        maxBody: config.maxBody,
        ours,
        assertionFor: (principal) => (ours ? signed(principal) : undefined),
        rightsOf: (principal) =>
          policies ? rightsIn(policies.current.set, principal, Date.now()) : EVERY_TOOL,
        policyDigest: () => policies?.current.digest,
        audit,
        record: createCallRecorder(metrics, audit, config.auditArguments),
        failedOver: record.failover,
      };
      return listen(http, config.listen);
    },
    async reload(next) {
      assertGatewayConfig(next);
      // The servers without it would be told what they must not be, or not be told what they need.
      if (next.serversAre !== config.serversAre)
        throw new OutriderError(
          'CONFIG_INVALID',
          `gateway.serversAre: ${config.serversAre} becomes ${next.serversAre} at a restart only, and nothing else of this configuration is taken over before`,
        );
      await servers.reload(next);
      const changed = changedKeys(running, next);
      running = next;
      safeTools = new Set(next.safeTools);
      // Places that are taken are given back to the limits that they were taken from.
      if (changed.includes('principalRate') || changed.includes('principalConcurrent'))
        enter = createLimits(limitsOf(next));
      const later = changed.filter((key) => !RELOADABLE.some((known) => known === key));
      if (later.length > 0)
        log.warn('some keys change at a restart only', { detail: { keys: later.join(', ') } });
    },
    stop() {
      stopping ??= stop();
      return stopping;
    },
  };
}

/** How far a request has come. */
interface Progress {
  /** Whether it is one of MCP, whose refusal has no other record. */
  isUnread: boolean;
  principal: Principal | undefined;
}

/** Whether a request opens a stream that ends only when one of its sides does. */
function isEventStream({ method, headers }: HttpRequest): boolean {
  return method === 'GET' || headers['mcp-method'] === 'subscriptions/listen';
}

function limitsOf({ principalRate, principalConcurrent }: GatewayConfig): PrincipalLimits {
  return { perMinute: principalRate, concurrent: principalConcurrent };
}

function headersOf(error: OutriderError): Record<string, string> {
  if (error.code === 'METHOD_NOT_ALLOWED') return { allow: METHODS.join(', ') };
  return error instanceof Refused && error.challenge !== undefined
    ? { 'www-authenticate': error.challenge }
    : {};
}

function recorder(metrics: Metrics) {
  const requests = metrics.tally('outrider_requests_total', 'Requests by status', {
    label: 'status',
  });
  const durations = metrics.timing(
    'outrider_request_duration_seconds',
    'Time from a request to the end of its answer; a stream counts for as long as it is open',
  );
  const failovers = metrics.counter(
    'outrider_failovers_total',
    'Requests that another server answered, because the first could not be reached',
  );
  const failures = metrics.counter('outrider_auth_failures_total', 'Callers not let in', [
    'reason',
  ]);
  const denials = metrics.tally(
    'outrider_denials_total',
    'Requests refused by the gateway itself, by error code',
    { label: 'reason' },
  );
  return {
    request(status: number, seconds: number) {
      requests.add(1, String(status));
      durations.observe(seconds);
    },
    denied: (code: ErrorCode) => denials.add(1, code.toLowerCase()),
    failover: () => failovers.inc(),
    authFailure: (reason: AuthFailure) => failures.inc({ reason }),
  };
}
