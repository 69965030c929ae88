import { randomUUID } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import type { Server } from 'node:http';
import { type Address, formatAddress } from '#core/address';
import { OutriderError } from '#core/errors';
import {
  adminRoutes,
  bind,
  closeServer,
  createAdminServer,
  listen,
  type ReadyCheck,
} from '#core/http';
import { readTrustedIssuers } from '#core/keys';
import { Lifecycle } from '#core/lifecycle';
import type { Logger } from '#core/log';
import type { Metrics } from '#core/metrics';
import { ExecutionVerifier, ProofVerifier, publicIssuer } from '#core/tokens';
import {
  configuredPolicies,
  type PolicyReload,
  PolicyStore,
  policyRecord,
  readyPolicy,
} from '#policystore';
import { openAudit, type ProxyAudit } from './audit.ts';
import { type AuditSink, openAuditSink } from './audit-sink.ts';
import { createAuthority } from './authority.ts';
import { Breakers } from './breaker.ts';
import type { ProxyConfig } from './config.ts';
import { assertProxyConfig } from './config-check.ts';
import { createCounts } from './counts.ts';
import { upstreamTrust } from './dial.ts';
import { createDialer } from './dialer.ts';
import { createDirectCallers } from './direct-callers.ts';
import { createProofsOfKeys } from './dpop.ts';
import { exchangeKeyOf } from './exchange-key.ts';
import { createHandler } from './handler.ts';
import { HeldSecrets } from './held-secrets.ts';
import { createIdentifier } from './identify.ts';
import { createIssuerVerifier } from './issuers/issuer-token.ts';
import { configuredLimits, createLimiter, createSharedBudgets } from './limits/index.ts';
import { Listener } from './listener.ts';
import { tlsAt } from './listeners.ts';
import { measureBreakers, proxyMetrics } from './metrics.ts';
import { createClientTokens } from './oauth2.ts';
import { OpenExchanges } from './open-exchanges.ts';
import { UpstreamPools } from './pools.ts';
import { createProbes } from './probes.ts';
import { createResolver } from './resolver.ts';
import { watchRunners } from './revocation-streams.ts';
import { Revocations } from './revocations.ts';
import type { Seat } from './seat.ts';
import { readKeyRing } from './secrets/key-ring.ts';
import { createSecrets, type Secrets } from './secrets.ts';
import { UpstreamSessions } from './sessions.ts';
import { createSlotGate, unresolvedSlots } from './slots.ts';
import { createTokenExchange } from './token-exchange.ts';
import { DatasourceTrusts } from './trust.ts';
import type { UpstreamProxy } from './via-proxy.ts';

export interface ProxyDeps {
  readonly log: Logger;
  readonly metrics: Metrics;
  /** Where `env:NAME` secrets are read from. */
  readonly env: Readonly<Record<string, string | undefined>>;
  /** Of one of several workers; absent where this process is the whole proxy. */
  readonly seat?: Seat | undefined;
}

/** Where a started proxy can be reached, with the real ports. */
export interface ProxyAddresses {
  readonly listen: Address;
  readonly tcp: Address | undefined;
  /** Of a worker that of its primary. */
  readonly admin: Address;
}

export interface Proxy {
  /** @throws {OutriderError} CONFIG_INVALID, POLICY_INVALID, ADDRESS_IN_USE; whatever had been started is stopped again */
  start(): Promise<ProxyAddresses>;
  /** Stops listening, lets requests that run end for a moment, closes tunnels and pools, and ends the audit with a checkpoint. */
  stop(): Promise<void>;
}

const DRAIN_MS = 3_000;
/** What a worker that is started again waits for runners that are away: the others serve meanwhile. */
const CATCH_UP_MS = 2_000;

/** The credential proxy, or one worker of it, in this process. Nothing is opened, read or listened on before `start`. */
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
  { log, metrics, env, seat }: ProxyDeps,
  lifecycle: Lifecycle,
): Promise<ProxyAddresses> {
  assertProxyConfig(config);
  const measured = proxyMetrics(metrics);
  const revocations = new Revocations();
  const open = new OpenExchanges(revocations);
  const rotation = { maxBytes: config['audit.maxBytes'], files: config['audit.files'] };
  const sink = seat?.sink ?? openSidecarAudit(config);
  lifecycle.add('audit sink', () => sink.close());
  const audit = openAudit({
    directory: config.auditDir,
    keysDirectory: config.auditKeysDir,
    worker: seat?.number,
    log,
    metrics,
    onCheckpoint: () => sink.flush(),
    rotation,
  });
  lifecycle.add('audit', () => audit.close());

  const secrets = createSecrets({
    directory: config.secretsDir,
    env,
    store: {
      directory: config['secretStore.dir'],
      ring: () => readKeyRing(config['secretStore.key'], env),
    },
  });
  const slots = createSlotGate(secrets);
  const source = configuredPolicies('proxy', config);
  const store = await PolicyStore.open({
    source: {
      read: () => source.read(),
      signature: async () => `${await source.signature()} ${slots.generation()}`,
    },
    log,
    metrics,
    assertUsable: ({ set }) => slots.assertUsable(set),
    onChange: () => open.recheck(authority),
    onRecord: (change) => recordPolicy(audit, change),
  });
  lifecycle.add('policies', () => store.close());
  const authority = createAuthority(store);
  const exchangeKey = seat?.exchangeKey ?? exchangeKeyOf(config['exchange.signingKey']);
  const issuers = createIssuerVerifier(config.issuers, log);
  const vouched = publicIssuer(
    exchangeKey,
    config.issuers.map(({ issuer }) => issuer),
  );
  const keyProofs = createProofsOfKeys({ used: seat?.usedProofs });
  // Another one at each start, which knows of no use before it.
  const proxyId = seat?.proxyId ?? randomUUID();
  const identifier = createIdentifier({
    revocations,
    keyProofs,
    proxyId,
    usedTokens: seat?.usedTokens,
    direct: createDirectCallers(config, store),
    executions: new ExecutionVerifier([
      ...readTrustedIssuers(config['keys.executionIssuers']),
      publicIssuer(exchangeKey),
    ]),
    proofs: new ProofVerifier([...readTrustedIssuers(config['keys.assertionIssuers']), vouched]),
    onVerified: (result) => measured.tokens.add(1, result),
  });
  const exchangeToken = createTokenExchange({
    issuers,
    policies: store,
    key: exchangeKey,
    audit,
    keyProofs,
    proxyId,
    onExchanged: (result) => measured.exchanges.inc({ result }),
  });

  const resolver = createResolver({
    servers: config['dns.servers'],
    hostsFile: config['dns.hostsFile'],
    timeoutMs: config['dns.timeout'],
  });
  lifecycle.add('resolver', () => resolver.close());
  const authorities = certificateAuthorities(config['tls.caFile']);
  const breakers = new Breakers({ onOpened: () => measured.breakerOpened.inc() });
  measureBreakers(metrics, breakers);
  const dial = createDialer(
    breakers,
    upstreamProxyOf(config, (ref) => secrets.read(ref)),
  );
  const dialling = {
    trust: upstreamTrust(authorities),
    connectTimeoutMs: config.connectTimeout,
    dial,
  };
  const timeouts = {
    headersTimeoutMs: config.upstreamTimeout,
    bodyTimeoutMs: config.tunnelIdle,
  };
  const pools = new UpstreamPools({ ...dialling, timeouts });
  lifecycle.add('pools', () => pools.close());
  const sessions = new UpstreamSessions(dialling);
  lifecycle.add('sessions', () => sessions.close());
  const workers = seat && { leases: seat.leases, count: config.workers };
  const limiter = createLimiter(config, { secrets, log, metrics, workers });
  const budgets = createSharedBudgets(config, { secrets, log, workers });
  const counts = (seat?.counts ?? createCounts)(limiter, budgets);
  lifecycle.add('limits', () => counts.close());

  const handler = createHandler({
    identifier,
    exchangeToken: config.issuers.length > 0 ? exchangeToken : undefined,
    authority,
    resolver,
    pools,
    sessions,
    dial,
    secrets,
    held: new HeldSecrets(secrets),
    tokens: createClientTokens({ resolver, pools, timeoutMs: config.connectTimeout }),
    trusts: new DatasourceTrusts(authorities),
    audit,
    sink,
    open,
    limits: configuredLimits(config),
    counts,
    metrics: measured,
    log,
    upstreamTimeoutMs: config.upstreamTimeout,
    connectTimeoutMs: config.connectTimeout,
    tunnelIdleMs: config.tunnelIdle,
    alertOnReturnedSecret: config.alertOnReturnedSecret,
  });
  const streams = watchRunners(config.runners, revocations, {
    log,
    onSynced: (count) => measured.revocationStreams.set(count),
  });
  lifecycle.add('revocation streams', () => streams.close());
  // What the others refuse already it would let through until it has heard of it.
  if (seat?.again) await streams.allSynced(CATCH_UP_MS);
  // After the servers and before the audit: what they had begun is still recorded.
  lifecycle.add('exchanges', () => handler.settled());
  // A proxy that nobody told to do so connects to nothing that was not asked for.
  const probes = config['ready.require'].includes('upstreams')
    ? createProbes(() => store.inForce.map(({ set }) => set), resolver)
    : undefined;
  lifecycle.add('probes', () => probes?.close());
  const problemsOf = {
    issuers: () => issuers.problems(),
    secrets: () =>
      Object.fromEntries(unresolvedOf(store, secrets).map((slot) => [slot, 'cannot be read'])),
    upstreams: () => probes?.unreachable ?? {},
  };
  const checks: ReadyCheck[] = [
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
    ...config['ready.require'].map((name) => ({
      name,
      check: async () => listed(await problemsOf[name]()),
    })),
  ];
  const info = () => ({
    ...readyPolicy(store),
    documents: countDocuments(store),
    unresolvedSecrets: unresolvedOf(store, secrets),
    ...(probes ? { unreachableDatasources: Object.keys(probes.unreachable).toSorted() } : {}),
  });
  seat?.readiness(checks, info);
  const adminAddress = seat
    ? config.admin
    : await serveAdmin(adminRoutes(checks, metrics, info), config.admin, lifecycle);
  const serveCalls = (address: Address): Promise<Address> => {
    const listener = new Listener(handler, tlsAt(address, config));
    const close = (): Promise<void> => listener.close(DRAIN_MS);
    return serve(listener.server, address, lifecycle, close, seat ? bind : listen);
  };
  const listenAddress = await serveCalls(config.listen);
  const tcpAddress = config.tcp === undefined ? undefined : await serveCalls(config.tcp);
  // Registered last, so that it goes first: a server waits for its tunnels otherwise.
  lifecycle.add('tunnels', () => open.closeTunnels());
  return { listen: listenAddress, tcp: tcpAddress, admin: adminAddress };
}

async function serve(
  server: Server,
  address: Address,
  lifecycle: Lifecycle,
  close: () => Promise<void>,
  listenAt: typeof listen = listen,
): Promise<Address> {
  const bound = await listenAt(server, address);
  lifecycle.add(formatAddress(bound), close);
  return bound;
}

/** Serves what `adminRoutes` gives until the end of `lifecycle`. @throws {OutriderError} ADDRESS_IN_USE, CONFIG_INVALID */
export function serveAdmin(
  routes: ReturnType<typeof adminRoutes>,
  address: Address,
  lifecycle: Lifecycle,
): Promise<Address> {
  const admin = createAdminServer(routes);
  return serve(admin, address, lifecycle, () => closeServer(admin));
}

/** Opens the audit of the sidecars, of which a proxy has one. */
export function openSidecarAudit(config: ProxyConfig): AuditSink {
  return openAuditSink(config.auditDir, {
    maxBytes: config['audit.maxBytes'],
    files: config['audit.sidecarFiles'],
  });
}

function upstreamProxyOf(
  config: ProxyConfig,
  read: (secretRef: string) => string,
): UpstreamProxy | undefined {
  const { upstreamProxy: place, upstreamProxyCredential: ref } = config;
  if (!place) return undefined;
  const basic = (pair: string): string => `Basic ${Buffer.from(pair).toString('base64')}`;
  return { ...place, authorization: () => (ref === undefined ? undefined : basic(read(ref))) };
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

/** One line of what is wrong with each; undefined where nothing is. */
function listed(problems: Readonly<Record<string, string>>): string | undefined {
  const all = Object.entries(problems).map(([name, problem]) => `${name}: ${problem}`);
  return all.length === 0 ? undefined : all.join('; ');
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
