import { existsSync, readFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import { type Address, formatAddress, isLoopback } from '#core/address';
import { OutriderError } from '#core/errors';
import { adminRoutes, closeServer, createAdminServer, listen } from '#core/http';
import { readTrustedIssuers } from '#core/keys';
import { Lifecycle } from '#core/lifecycle';
import type { Logger } from '#core/log';
import type { Metrics } from '#core/metrics';
import { ExecutionVerifier, ProofVerifier } from '#core/tokens';
import { Budgets, RuleLimits } from '#policies';
import {
  configuredPolicies,
  type PolicyReload,
  PolicyStore,
  policyRecord,
  readyPolicy,
} from '#policystore';
import { openAudit, type ProxyAudit } from './audit.ts';
import { openAuditSink } from './audit-sink.ts';
import { createAuthority } from './authority.ts';
import type { ProxyConfig } from './config.ts';
import { upstreamTrust } from './dial.ts';
import { createHandler, type Handler } from './handler.ts';
import { createIdentifier } from './identify.ts';
import { proxyMetrics } from './metrics.ts';
import { OpenExchanges } from './open-exchanges.ts';
import { UpstreamPools } from './pools.ts';
import { createResolver } from './resolver.ts';
import { createSecrets, type Secrets } from './secrets.ts';
import { unresolvedSlots } from './slots.ts';

export interface ProxyDeps {
  readonly log: Logger;
  readonly metrics: Metrics;
  /** Where `env:NAME` secrets are read from. */
  readonly env: Readonly<Record<string, string | undefined>>;
}

/** Where a started proxy can be reached, with the real ports. */
export interface ProxyAddresses {
  readonly listen: Address;
  readonly tcp: Address | undefined;
  readonly admin: Address;
}

export interface Proxy {
  /** @throws {OutriderError} CONFIG_INVALID, POLICY_INVALID, ADDRESS_IN_USE; whatever had been started is stopped again */
  start(): Promise<ProxyAddresses>;
  /** Stops listening, lets requests that run end for a moment, closes tunnels and pools, and ends the audit with a checkpoint. */
  stop(): Promise<void>;
}

/** An execution token with the assertion inside is about 2 KiB; the rest is the program's. */
const HEADER_MAX_BYTES = 32_768;
const HEADERS_TIMEOUT_MS = 10_000;
const REQUEST_TIMEOUT_MS = 600_000;
const KEEP_ALIVE_MS = 75_000;
const DRAIN_MS = 3_000;

/** The credential proxy. Nothing is opened, read or listened on before `start`. */
export function createProxy(config: ProxyConfig, deps: ProxyDeps): Proxy {
  const lifecycle = new Lifecycle(deps.log);
  return {
    async start() {
      try {
        return await start(config, deps, lifecycle);
      } catch (error) {
        await lifecycle.stop();
        throw error;
      }
    },
    stop: () => lifecycle.stop(),
  };
}

async function start(
  config: ProxyConfig,
  { log, metrics, env }: ProxyDeps,
  lifecycle: Lifecycle,
): Promise<ProxyAddresses> {
  assertLoopback(config);
  const measured = proxyMetrics(metrics);
  const identifier = createIdentifier({
    executions: new ExecutionVerifier(readTrustedIssuers(config['keys.executionIssuers'])),
    proofs: new ProofVerifier(readTrustedIssuers(config['keys.assertionIssuers'])),
    onVerified: (result) => measured.tokens.inc({ result }),
  });

  const open = new OpenExchanges();
  const sink = await openAuditSink(config.auditDir);
  lifecycle.add('audit sink', () => sink.close());
  const audit = openAudit({
    directory: config.auditDir,
    keysDirectory: config.auditKeysDir,
    log,
    metrics,
    onCheckpoint: () => sink.flush(),
  });
  lifecycle.add('audit', () => audit.close());

  const store = await PolicyStore.open({
    source: configuredPolicies('proxy', config),
    log,
    metrics,
    onChange: () => open.recheck(authority),
    onRecord: (change) => recordPolicy(audit, change),
  });
  lifecycle.add('policies', () => store.close());
  const authority = createAuthority(store);

  const resolver = createResolver({
    servers: config['dns.servers'],
    hostsFile: config['dns.hostsFile'],
    timeoutMs: config['dns.timeout'],
  });
  lifecycle.add('resolver', () => resolver.close());
  const pools = new UpstreamPools({
    trust: upstreamTrust(certificateAuthorities(config['tls.caFile'])),
    connectTimeoutMs: config.connectTimeout,
  });
  lifecycle.add('pools', () => pools.close());
  const secrets = createSecrets({ directory: config.secretsDir, env });

  const handler = createHandler({
    identifier,
    authority,
    resolver,
    pools,
    secrets,
    audit,
    sink,
    open,
    ruleLimits: new RuleLimits(),
    budgets: new Budgets(),
    metrics: measured,
    log,
    upstreamTimeoutMs: config.upstreamTimeout,
    connectTimeoutMs: config.connectTimeout,
    tunnelIdleMs: config.tunnelIdle,
  });
  // After the servers and before the audit: what they had begun is still recorded.
  lifecycle.add('exchanges', () => handler.settled());
  const admin = createAdminServer(
    adminRoutes(
      [
        {
          name: 'policies',
          check: () => (store.current.digest === '' ? 'none loaded' : undefined),
        },
        {
          name: 'audit',
          check: () => {
            audit.assertWritable();
            return undefined;
          },
        },
      ],
      metrics,
      () => ({
        ...readyPolicy(store),
        documents: countDocuments(store),
        unresolvedSecrets: unresolvedOf(store, secrets),
      }),
    ),
  );
  const adminAddress = await serve(admin, config.admin, lifecycle, 0);
  const listenAddress = await serve(callServer(handler), config.listen, lifecycle, DRAIN_MS);
  const tcpAddress =
    config.tcp === undefined
      ? undefined
      : await serve(callServer(handler), config.tcp, lifecycle, DRAIN_MS);
  // Registered last, so that it goes first: a server waits for its tunnels otherwise.
  lifecycle.add('tunnels', () => open.closeTunnels());
  return { listen: listenAddress, tcp: tcpAddress, admin: adminAddress };
}

/** A strict server for sidecars; node:http reads, `handler` decides. */
function callServer(handler: Handler): Server {
  const server = createServer({
    insecureHTTPParser: false,
    // Node would refuse by itself, and without a record; `requestTarget` does it here.
    requireHostHeader: false,
    maxHeaderSize: HEADER_MAX_BYTES,
    headersTimeout: HEADERS_TIMEOUT_MS,
    requestTimeout: REQUEST_TIMEOUT_MS,
    keepAliveTimeout: KEEP_ALIVE_MS,
  });
  server.on('request', (request, response) => void handler.request(request, response, false));
  server.on('checkContinue', (request, response) => void handler.request(request, response, true));
  server.on(
    'checkExpectation',
    (request, response) => void handler.request(request, response, false),
  );
  server.on('connect', (request, socket, head) => void handler.connect(request, socket, head));
  server.on('clientError', (error, socket) => handler.malformed(error, socket));
  return server;
}

async function serve(
  server: Server,
  address: Address,
  lifecycle: Lifecycle,
  graceMs: number,
): Promise<Address> {
  const bound = await listen(server, address);
  lifecycle.add(formatAddress(bound), () => closeServer(server, graceMs));
  return bound;
}

/** Tokens travel in clear on this hop: it may not leave the machine before mTLS is there. */
function assertLoopback({ listen: main, tcp }: ProxyConfig): void {
  const open = [main, tcp].find((address) => address !== undefined && !isLoopback(address));
  if (open)
    throw new OutriderError(
      'CONFIG_INVALID',
      `proxy: ${formatAddress(open)} can be reached from other machines, which needs mTLS, and that is not in this version: listen on a unix socket or on loopback`,
    );
}

function certificateAuthorities(path: string | undefined): string | undefined {
  if (path === undefined) return undefined;
  if (!existsSync(path))
    throw new OutriderError('CONFIG_INVALID', `proxy.tls.caFile: ${path} does not exist`);
  return readFileSync(path, 'utf8');
}

/** Slots of every policy in force, also of one that only a canary has. */
function unresolvedOf(store: PolicyStore, secrets: Secrets): string[] {
  return [...new Set(store.inForce.flatMap(({ set }) => unresolvedSlots(set, secrets)))];
}

/** What cannot be written now is owed, and lets nothing out before it is. */
function recordPolicy(audit: ProxyAudit, change: PolicyReload): void {
  try {
    audit.record(policyRecord(change));
  } catch {}
}

function countDocuments(store: PolicyStore): number {
  return Object.values(store.current.documents).reduce((sum, list) => sum + list.length, 0);
}
