import { chmodSync, readdirSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { Server, ServerCredentials } from '@grpc/grpc-js';
import { type Address, formatAddress, isLoopback } from '#core/address';
import { AuditChain, AuditFile } from '#core/audit';
import { OutriderError } from '#core/errors';
import type { Report } from '#core/grpc';
import { GrpcHealth } from '#core/grpc-health';
import {
  accepts,
  adminRoutes,
  closeServer,
  createAdminServer,
  listen,
  removeStaleSocket,
} from '#core/http';
import { auditSigningKey, readSigningKey, readTrustedIssuers } from '#core/keys';
import { Lifecycle } from '#core/lifecycle';
import type { Logger } from '#core/log';
import { Metrics } from '#core/metrics';
import { ensurePrivateDir } from '#core/runtime-dir';
import { AssertionVerifier, ExecutionSigner } from '#core/tokens';
import { PolicyStore } from '#policystore';
import {
  ExecServiceService,
  FileServiceService,
  HealthService,
  RevocationServiceService,
  SandboxServiceService,
} from '#proto';
import type { Backend } from './backends/backend.ts';
import { createBubblewrapBackend } from './backends/bubblewrap/backend.ts';
import { callersBy, type IdentifyCaller } from './callers.ts';
import { cgroupHost } from './cgroup.ts';
import type { RunnerConfig } from './config.ts';
import { execService } from './exec-service.ts';
import { createIdentities } from './identities.ts';
import { runnerMetrics } from './metrics.ts';
import { WarmPool } from './pool.ts';
import { Runner } from './runner.ts';
import { Sandbox } from './sandbox.ts';
import { fileService, revocationService, sandboxService } from './sandbox-service.ts';
import { createSharedSidecar, createSidecarProcesses } from './sidecar-processes.ts';

/** The largest message: a program of 1 MiB and its files; answers stay below 3 MiB. */
const MESSAGE_MAX_BYTES = 8 * 2 ** 20;
const PROBE_EVERY_MS = 30_000;

export interface RunnerDeps {
  readonly log: Logger;
  /** argv of `outrider sidecar`. */
  readonly sidecarCommand: readonly string[];
}

/** A running runner: everything that it started ends with `stop`. */
export interface RunningRunner {
  readonly listen: Address;
  readonly tcp: Address | undefined;
  readonly admin: Address;
  stop(): Promise<void>;
}

/** Starts the runner as configured. @throws {OutriderError} CONFIG_INVALID, POLICY_INVALID, ADDRESS_IN_USE, BACKEND_UNAVAILABLE */
export async function startRunner(
  config: RunnerConfig,
  { log, sidecarCommand }: RunnerDeps,
): Promise<RunningRunner> {
  for (const [key, address] of [
    ['listen', config.listen],
    ['tcp', config.tcp],
  ] as const)
    if (address && !isLoopback(address))
      throw new OutriderError(
        'CONFIG_INVALID',
        `runner.${key} must be a unix socket or a loopback address: mutual TLS between hosts is not in this version`,
      );
  const lifecycle = new Lifecycle(log, config.drainTimeout + 15_000);
  try {
    return await start(config, { log, sidecarCommand }, lifecycle);
  } catch (error) {
    await lifecycle.stop();
    throw error;
  }
}

async function start(
  config: RunnerConfig,
  { log, sidecarCommand }: RunnerDeps,
  lifecycle: Lifecycle,
): Promise<RunningRunner> {
  const metrics = new Metrics('runner');
  const counts = runnerMetrics(metrics);
  const signer = new ExecutionSigner(readSigningKey(config.signingKey));
  const verifier = new AssertionVerifier(readTrustedIssuers(config.assertionIssuers));

  const audit = new AuditChain('runner', new AuditFile(config.audit), {
    signingKey: auditSigningKey(config.auditKeys, 'runner'),
  });
  audit.startCheckpoints();
  lifecycle.add('audit', () => audit.close());

  const backend = await prepareBackend(config, lifecycle);
  const unusable = await backend.probe();
  if (unusable)
    throw new OutriderError(
      'BACKEND_UNAVAILABLE',
      `${backend.name} cannot isolate here: ${unusable}`,
    );

  const sidecars =
    config.sharing === 'host'
      ? createSharedSidecar(config.sidecar)
      : createSidecarProcesses({
          command: sidecarCommand,
          directory: config.sandboxDirectory,
          proxy: config.proxy,
          logLevel: config.logLevel,
          spares: config.spareSidecars,
          log,
        });
  lifecycle.add('sidecars', () => sidecars.close());

  const identities = createIdentities(config.firstUid, config.uidCount);
  const pool = new WarmPool({
    size: config.poolSize,
    log,
    onChange: (warm) => counts.warm.set(warm),
    create: (shape) =>
      Sandbox.create({ backend, sidecars, identities, directory: config.sandboxDirectory }, shape),
  });

  let runner: Runner | undefined;
  const store = await PolicyStore.open({
    directory: config.policies,
    log,
    onChange: (loaded) => {
      counts.policy.reset();
      counts.policy.set({ digest: loaded.digest }, 1);
      runner?.tighten(loaded);
      runner?.warmUp();
    },
  });
  lifecycle.add('policies', () => store.close());
  counts.policy.set({ digest: store.current.digest }, 1);
  if (store.current.documents.roles.length === 0)
    log.warn('there is no Role in the policy directory: nobody can run anything');

  runner = new Runner({
    backend,
    pool,
    policy: () => store.current,
    signer,
    audit,
    metrics: counts,
    log,
    capacity: config.capacity,
    runnerId: config.name,
  });
  const running = runner;
  const health = new GrpcHealth(SERVICES);

  const localServer = await serve(
    config.listen,
    services(
      running,
      backend,
      pool,
      health,
      callersBy(verifier, config.listen.kind === 'unix' ? config.localAssertion : undefined),
      log,
    ),
    lifecycle,
  );
  const tcpServer = config.tcp
    ? await serve(
        config.tcp,
        services(running, backend, pool, health, callersBy(verifier, undefined), log),
        lifecycle,
      )
    : undefined;
  // After the servers, so that it is stopped before them: callers wait on their connections for the ends of their programs.
  lifecycle.add('programs', () => running.drain(config.drainTimeout));

  // What /readyz says of the backend is at most this old; the probe itself never fails.
  let backendProblem: string | undefined;
  const probing = setInterval(() => {
    void backend.probe().then((problem) => {
      backendProblem = problem;
    });
  }, PROBE_EVERY_MS).unref();
  lifecycle.add('probe', () => clearInterval(probing));

  const routes = adminRoutes(
    [
      { name: 'backend', check: () => backendProblem },
      {
        name: config.sharing === 'host' ? 'sidecar' : 'proxy',
        check: async () =>
          (await accepts(config.sharing === 'host' ? config.sidecar : config.proxy))
            ? undefined
            : 'it takes no connections',
      },
      { name: 'sandboxes', check: () => pool.problem },
      {
        name: 'audit',
        check: () => (running.auditBroken ? 'the audit cannot be written' : undefined),
      },
      { name: 'draining', check: () => (running.draining ? 'the runner is stopping' : undefined) },
    ],
    metrics,
    () => ({ policyDigest: store.current.digest, warm: pool.warm, running: running.running }),
  );
  const admin = createAdminServer(routes);
  const adminAddress = await listen(admin, config.admin);
  lifecycle.add('admin', () => closeServer(admin));
  lifecycle.add('health', () => {
    running.draining = true;
    health.setServing(false);
  });

  running.warmUp();
  return { listen: localServer, tcp: tcpServer, admin: adminAddress, stop: () => lifecycle.stop() };
}

const SERVICES = [
  'outrider.runner.v1.ExecService',
  'outrider.runner.v1.SandboxService',
  'outrider.runner.v1.FileService',
];

/** Makes the directory that every sandbox's user may enter and nobody may list, without what an earlier runner left there. */
async function prepareBackend(config: RunnerConfig, lifecycle: Lifecycle): Promise<Backend> {
  const directory = config.sandboxDirectory;
  ensurePrivateDir(directory, 0o711); // never somebody else's, and never a link to somewhere else
  await own(directory, lifecycle);
  for (const name of readdirSync(directory))
    if (/^(sbx|att|probe)-/.test(name))
      rmSync(join(directory, name), { recursive: true, force: true });
  lifecycle.add('directory', () => rmSync(directory, { recursive: true, force: true }));
  const cgroups = cgroupHost(directory);
  cgroups?.sweep();
  lifecycle.add('cgroups', () => cgroups?.close());
  return createBubblewrapBackend({
    sharedDirectory: directory,
    cgroups,
    command: config.bubblewrap,
  });
}

/**
 * Makes the directory this runner's alone for as long as it lives: a socket in it that somebody answers is another runner's, which
 * must lose nothing.
 */
async function own(directory: string, lifecycle: Lifecycle): Promise<void> {
  const owner = createServer((socket) => socket.destroy());
  try {
    await listen(owner, { kind: 'unix', path: join(directory, 'owner.sock') });
  } catch (error) {
    throw new OutriderError(
      'ADDRESS_IN_USE',
      `another runner uses ${directory}: give this one a runner.sandboxDirectory of its own`,
      { cause: error },
    );
  }
  lifecycle.add('owner', () => void owner.close());
}

function services(
  runner: Runner,
  backend: Backend,
  pool: WarmPool,
  health: GrpcHealth,
  identify: IdentifyCaller,
  log: Logger,
): Server {
  const report: Report = (method, error, { requestId }) => {
    const level = error.code === 'INTERNAL' || error.code === 'SANDBOX_FAILED' ? 'error' : 'info';
    log[level](`${method} failed`, { error, requestId });
  };
  const server = new Server({
    'grpc.max_receive_message_length': MESSAGE_MAX_BYTES,
    'grpc.max_send_message_length': MESSAGE_MAX_BYTES,
    // A client that vanished without a word ends its programs.
    'grpc.keepalive_time_ms': 20_000,
    'grpc.keepalive_timeout_ms': 10_000,
  });
  server.addService(ExecServiceService, execService(runner, identify, report));
  server.addService(SandboxServiceService, sandboxService(runner, backend, pool, identify, report));
  server.addService(FileServiceService, fileService(runner, identify, report));
  server.addService(RevocationServiceService, revocationService(report));
  server.addService(HealthService, health.service(report));
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
