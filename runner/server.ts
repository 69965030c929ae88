import { chmodSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { Server, ServerCredentials } from '@grpc/grpc-js';
import { type Address, formatAddress } from '#core/address';
import { AuditChain, AuditFile } from '#core/audit';
import { OutriderError } from '#core/errors';
import { GrpcHealth } from '#core/grpc-health';
import {
  accepts,
  adminRoutes,
  closeServer,
  createAdminServer,
  failingChecks,
  listen,
  type ReadyCheck,
  removeStaleSocket,
} from '#core/http';
import { auditSigningKey, readSigningKey, readTrustedIssuers } from '#core/keys';
import { Lifecycle } from '#core/lifecycle';
import type { Logger } from '#core/log';
import { givesUpRoot } from '#core/mesh-user';
import { Metrics } from '#core/metrics';
import { AssertionVerifier, ExecutionSigner } from '#core/tokens';
import { PolicyStore, policyRecord, readyPolicy } from '#policystore';
import { ArtefactStore } from './artefacts.ts';
import { callersBy, type IdentifyCaller } from './callers.ts';
import { CancelKeys } from './cancel-keys.ts';
import type { RunnerConfig } from './config.ts';
import { assertRunnerConfig, proxyTlsPaths } from './config-check.ts';
import { Datasources } from './datasources.ts';
import { exchangedTokens, type TokenSource } from './exchanged-tokens.ts';
import { becomeUser, policySource } from './give-up-root.ts';
import { Idempotency } from './idempotency.ts';
import { ExecJournal } from './journal.ts';
import { KnownBackends } from './known-backends.ts';
import { LauncherClient } from './launcher/client.ts';
import { runnerDirectory } from './launcher/directories.ts';
import { runnerMetrics } from './metrics.ts';
import { OpenCalls } from './open-calls.ts';
import { WarmPool } from './pool.ts';
import { Runner } from './runner.ts';
import { Sandbox } from './sandbox.ts';
import type { Made } from './sandbox-service.ts';
import { addServices, SERVICES, type ServicesDeps } from './services.ts';
import { SharedRuns } from './shared-runs.ts';
import { createSharedSidecar, createSidecarProcesses } from './sidecar-processes.ts';

/** The largest message: a program of 1 MiB and its files; answers stay below 3 MiB. */
const MESSAGE_MAX_BYTES = 8 * 2 ** 20;
const LOOK_EVERY_MS = 30_000;
/** A box of an engine costs more to try than one of the default backend, which is looked at each time. */
const LOOK_AT_OTHERS_EVERY = 4;
/** How old what servers are told of its readiness may be: none of them is to wait for that. */
const READY_EVERY_MS = 2_000;

export interface RunnerDeps {
  readonly log: Logger;
  /** argv of `outrider sidecar`. */
  readonly sidecarCommand: readonly string[];
  /** argv of `outrider launcher`, with the options that this runner has, and its environment. */
  readonly launcherCommand: readonly string[];
  readonly env: Readonly<Record<string, string | undefined>>;
  /** Called once the launcher runs and what only root may open is open; does nothing where there is no root to give up. */
  readonly giveUpRoot: () => void;
}

/** A running runner: everything that it started ends with `stop`. */
export interface RunningRunner {
  readonly listen: Address;
  readonly tcp: Address | undefined;
  readonly admin: Address;
  /** Resolves after `stop`; rejects with SANDBOX_FAILED when the launcher ended, and every sandbox with it: then only `stop` is left to do. */
  readonly over: Promise<void>;
  stop(): Promise<void>;
}

/** Starts the runner as configured. @throws {OutriderError} CONFIG_INVALID, POLICY_INVALID, ADDRESS_IN_USE, BACKEND_UNAVAILABLE */
export async function startRunner(config: RunnerConfig, deps: RunnerDeps): Promise<RunningRunner> {
  assertRunnerConfig(config);
  const lifecycle = new Lifecycle(deps.log, config.drainTimeout + 15_000);
  try {
    return await start(config, deps, lifecycle);
  } catch (error) {
    await lifecycle.stop();
    throw error;
  }
}

async function start(
  config: RunnerConfig,
  { log, sidecarCommand, launcherCommand, env, giveUpRoot }: RunnerDeps,
  lifecycle: Lifecycle,
): Promise<RunningRunner> {
  const metrics = new Metrics('runner');
  const counts = runnerMetrics(metrics);
  const signer = tokenSource(config);
  const verifier = new AssertionVerifier(readTrustedIssuers(config.assertionIssuers));

  const audit = new AuditChain('runner', auditFile(config), {
    signingKey: auditSigningKey(config.auditKeys, 'runner'),
  });
  audit.startCheckpoints();
  lifecycle.add('audit', () => audit.close());

  const launcher = await LauncherClient.start(launcherCommand, env);
  lifecycle.add('launcher', () => launcher.stop());
  const policies = policySource(config, launcher.policies);
  const unprivileged = await becomeUser(config, sidecarCommand, giveUpRoot);
  const known = new KnownBackends(launcher.backends);
  await known.look();
  if (known.problem !== undefined)
    throw new OutriderError(
      'BACKEND_UNAVAILABLE',
      `${known.all[0]?.name} cannot isolate here: ${known.problem}`,
    );
  for (const [name, problem] of Object.entries(known.problems))
    log.warn('a backend cannot be used', { detail: { backend: name, problem } });

  const ownDirectory = runnerDirectory(config);
  const sidecars =
    config.sharing === 'host'
      ? createSharedSidecar(config.sidecar)
      : createSidecarProcesses({
          command: sidecarCommand,
          directory: ownDirectory,
          user: config.user,
          env: { ...env, ...unprivileged.env },
          proxy: config.proxy,
          logLevel: config.logLevel,
          spares: config.spareSidecars,
          log,
        });
  lifecycle.add('sidecars', () => sidecars.close());

  const pool = new WarmPool({
    floor: config.poolSize,
    ceiling: Math.max(config.poolSize, config.poolMax),
    log,
    onChange: (warm) => counts.warm.set(warm),
    create: (shape, isAwaited) => Sandbox.create({ boxes: launcher, sidecars }, shape, isAwaited),
  });

  let runner: Runner | undefined;
  let datasources: Datasources | undefined;
  const store = await PolicyStore.open({
    source: policies,
    log,
    metrics,
    onRecord: (change) => {
      try {
        audit.append(policyRecord(change));
      } catch (error) {
        log.error('an audit record cannot be written', { error });
      }
    },
    onChange: () => {
      runner?.tighten();
      runner?.warmUp();
      datasources?.changed();
    },
  });
  lifecycle.add('policies', () => store.close());
  if (store.current.documents.roles.length === 0)
    log.warn('there is no Role in the policy: nobody can run anything');

  const artefacts = new ArtefactStore({
    directory: join(ownDirectory, 'artefacts'),
    perExecBytes: config.artefactBytes,
    totalBytes: config.artefactTotalBytes,
    keepMs: ARTEFACTS_KEEP_MS,
  });
  lifecycle.add('artefacts', () => artefacts.close());
  const journal = new ExecJournal(unprivileged.journal);
  lifecycle.add('journal', () => journal.close());
  runner = new Runner({
    backends: () => known.all,
    pool,
    artefacts,
    policies: store,
    signer,
    registries: { pip: config.pipIndex, npm: config.npmRegistry },
    audit,
    journal,
    metrics: counts,
    log,
    capacity: config.capacity,
    memoryBytes: config.memory,
    runnerId: config.name,
  });
  const running = runner;
  const watched = new Datasources(store);
  datasources = watched;
  const health = new GrpcHealth(SERVICES);
  const runs = new SharedRuns(running, journal);
  const made = new Idempotency<Made>();
  const calls = new OpenCalls(config.capacity + IDLE_CALLS_MAX);
  const checks = readyChecks(config, { known, pool, running });
  let unready = false;
  const shared = {
    runner: running,
    runs,
    made,
    calls,
    cancelKeys: new CancelKeys(),
    artefacts,
    backends: () => known.all,
    unready: () => unready,
    pool,
    datasources: watched,
    health,
    log,
  };

  const localServer = await serve(
    config.listen,
    services(
      shared,
      callersBy(verifier, config.listen.kind === 'unix' ? config.localAssertion : undefined),
      config.listen.kind === 'unix',
    ),
    lifecycle,
  );
  const tcpServer = config.tcp
    ? await serve(config.tcp, services(shared, callersBy(verifier, undefined), false), lifecycle)
    : undefined;
  // After the servers, so that it is stopped before them: callers wait on their connections for the ends of their programs.
  lifecycle.add('programs', () => running.drain(config.drainTimeout));
  lifecycle.add('datasources', () => watched.close());

  // What /readyz says of the default backend is at most this old.
  let looks = 0;
  const looking = setInterval(() => {
    looks += 1;
    const all = looks % LOOK_AT_OTHERS_EVERY === 0;
    void known
      .look(({ name, problem }) => all || problem !== undefined || name === known.default?.name)
      .then((better) => better && running.warmUp());
  }, LOOK_EVERY_MS).unref();
  lifecycle.add('looking at backends', () => clearInterval(looking));
  const askingItself = setInterval(() => {
    void failingChecks(checks).then((problems) => {
      unready = Object.keys(problems).length > 0;
    });
  }, READY_EVERY_MS).unref();
  lifecycle.add('asking itself', () => clearInterval(askingItself));

  const routes = adminRoutes(checks, metrics, () => ({
    ...readyPolicy(store),
    warm: pool.warm,
    running: running.running,
    unusableBackends: known.problems,
    unusableProfiles: running.unusableProfiles,
  }));
  const admin = createAdminServer(routes);
  const adminAddress = await listen(admin, config.admin);
  lifecycle.add('admin', () => closeServer(admin));
  lifecycle.add('health', () => {
    running.draining = true;
    health.setServing(false);
  });

  running.warmUp();
  return {
    listen: localServer,
    tcp: tcpServer,
    admin: adminAddress,
    over: launcher.over,
    stop: () => lifecycle.stop(),
  };
}

interface ToCheck {
  readonly known: KnownBackends;
  readonly pool: WarmPool;
  readonly running: Runner;
}

/** Nothing is wrong before it was right once: where a sidecar is shared only that need know where the proxy is. */
function onceKnown({ name, check }: ReadyCheck): ReadyCheck {
  let isKnown = false;
  return {
    name,
    check: async () => {
      const problem = await check();
      isKnown ||= problem === undefined;
      return isKnown ? problem : undefined;
    },
  };
}

/** What programs need. */
function readyChecks(
  { sharing, sidecar, proxy }: RunnerConfig,
  { known, pool, running }: ToCheck,
): ReadyCheck[] {
  const takes = (name: string, place: Address): ReadyCheck => ({
    name,
    check: async () => ((await accepts(place)) ? undefined : 'it takes no connections'),
  });
  const onTheWay =
    sharing === 'host'
      ? [takes('sidecar', sidecar), onceKnown(takes('proxy', proxy))]
      : [takes('proxy', proxy)];
  return [
    { name: 'backend', check: () => known.problem },
    ...onTheWay,
    { name: 'sandboxes', check: () => pool.problem },
    {
      name: 'audit',
      check: () => (running.auditBroken ? 'the audit cannot be written' : undefined),
    },
    { name: 'draining', check: () => (running.draining ? 'the runner is stopping' : undefined) },
  ];
}

function auditFile({ audit, auditMaxBytes, auditFiles, user }: RunnerConfig): AuditFile {
  const rotation = { maxBytes: auditMaxBytes, files: auditFiles };
  return new AuditFile(audit, rotation, { slots: givesUpRoot(user) });
}

/** @throws {OutriderError} CONFIG_INVALID */
function tokenSource(config: RunnerConfig): TokenSource {
  const tokenFile = config['exchange.tokenFile'];
  if (tokenFile === undefined) return new ExecutionSigner(readSigningKey(config.signingKey));
  const paths = proxyTlsPaths(config);
  const [cert = '', key = '', ca = ''] = paths.map((path) => readFileSync(path, 'utf8'));
  const tls = paths.length === 0 ? undefined : { cert, key, ca };
  return exchangedTokens({ proxy: config.proxy, tls, tokenFile });
}

/** How many calls one owner may have open beside those whose programs run: ended and not read to their end, or sharing one exec. */
const IDLE_CALLS_MAX = 64;

/** How long what an exec left in /output can be read. */
const ARTEFACTS_KEEP_MS = 10 * 60_000;

function services(deps: ServicesDeps, identify: IdentifyCaller, ofTheMesh: boolean): Server {
  const server = new Server({
    'grpc.max_receive_message_length': MESSAGE_MAX_BYTES,
    'grpc.max_send_message_length': MESSAGE_MAX_BYTES,
    // A client that vanished without a word ends its programs.
    'grpc.keepalive_time_ms': 20_000,
    'grpc.keepalive_timeout_ms': 10_000,
  });
  addServices(server, deps, identify, ofTheMesh);
  return server;
}

async function serve(address: Address, server: Server, lifecycle: Lifecycle): Promise<Address> {
  if (address.kind === 'unix') await removeStaleSocket(address.path);
  const target = address.kind === 'unix' ? `unix:${address.path}` : formatAddress(address);
  const port = await new Promise<number>((resolve, reject) => {
    server.bindAsync(target, ServerCredentials.createInsecure(), (error, bound) => {
      if (error)
        reject(
          new OutriderError(
            'ADDRESS_IN_USE',
            `${formatAddress(address)} is in use by another process`,
            { cause: error },
          ),
        );
      else resolve(bound);
    });
  });
  if (address.kind === 'unix') chmodSync(address.path, 0o600);
  lifecycle.add(`gRPC on ${formatAddress(address)}`, async () => {
    await new Promise<void>((resolve) => {
      const timer = setTimeout(() => server.forceShutdown(), 2_000);
      server.tryShutdown(() => {
        clearTimeout(timer);
        resolve();
      });
    });
    if (address.kind === 'unix') rmSync(address.path, { force: true });
  });
  return address.kind === 'tcp' ? { ...address, port } : address;
}
