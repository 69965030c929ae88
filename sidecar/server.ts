import { rmSync } from 'node:fs';
import type { Server as HttpServer } from 'node:http';
import { Server, ServerCredentials } from '@grpc/grpc-js';
import { type Address, formatAddress } from '#core/address';
import { OutriderError } from '#core/errors';
import type { CallContext } from '#core/grpc';
import { adminRoutes, closeServer, createAdminServer, listen, removeStaleSocket } from '#core/http';
import type { Logger } from '#core/log';
import type { Metrics } from '#core/metrics';
import { SidecarServiceService } from '#proto/sidecar';
import { Attachment } from './attachment.ts';
import { CompiledPolicies } from './compiled-policies.ts';
import { adminAddress, type SidecarConfig } from './config.ts';
import { assertUnix } from './config-check.ts';
import { createMeasures } from './measures.ts';
import { proxyProblem } from './proxy-link.ts';
import { readProxyTls } from './proxy-tls.ts';
import { type ServiceHost, sidecarService } from './service.ts';

export interface Sidecar {
  /** Resolves to the addresses in use. @throws {OutriderError} ADDRESS_IN_USE, CONFIG_INVALID */
  start(): Promise<{ readonly listen: Address; readonly admin: Address | undefined }>;
  /** Ends every attachment, delivering its records, then stops listening. */
  stop(): Promise<void>;
  /** Resolves when the first attachment has ended. */
  readonly firstEnded: Promise<void>;
}

/** A sidecar process: attachments driven over gRPC, and the admin routes. */
export function createSidecar(
  config: SidecarConfig,
  deps: {
    readonly log: Logger;
    /** Without them there are no admin routes. */
    readonly metrics?: Metrics | undefined;
  },
): Sidecar {
  const { listen: address } = config;
  assertUnix(address);
  const host = new Host(config, deps);
  const grpc = new Server({ 'grpc.max_receive_message_length': 16 * 1024 * 1024 });
  grpc.addService(
    SidecarServiceService,
    sidecarService(host, (method, error, context) => logFailure(deps.log, method, error, context)),
  );
  const checks = [{ name: 'proxy', check: () => proxyProblem(config.proxy) }];
  let admin: HttpServer | undefined;
  let bound = false; // a socket that is not ours must not be removed

  return {
    firstEnded: host.firstEnded,
    async start() {
      const wanted = adminAddress(config);
      if (wanted && deps.metrics) {
        const status = () => ({ attachments: host.size });
        admin = createAdminServer(adminRoutes(checks, deps.metrics, status));
      }
      const adminBound = wanted && admin ? await listen(admin, wanted) : undefined;
      await removeStaleSocket(address.path);
      await bindGrpc(grpc, address);
      bound = true;
      return { listen: address, admin: adminBound };
    },
    async stop() {
      await host.stop();
      grpc.forceShutdown();
      if (bound) rmSync(address.path, { force: true });
      if (admin?.listening) await closeServer(admin);
    },
  };
}

/** The attachments of one process. */
class Host implements ServiceHost {
  readonly limits;
  readonly spoolRecords: number;
  readonly policies = new CompiledPolicies();
  readonly firstEnded: Promise<void>;
  readonly #attachments = new Map<string, Attachment>();
  /** Ids that are being opened: taken before the first await, so that two streams cannot share one. */
  readonly #opening = new Set<string>();
  readonly #stops = new Set<() => void>();
  readonly #deps;
  #ended: () => void = () => {};
  #stopping = false;

  constructor(
    config: SidecarConfig,
    { log, metrics }: { log: Logger; metrics?: Metrics | undefined },
  ) {
    this.spoolRecords = config.spoolRecords;
    this.limits = {
      tunnels: config.tunnels,
      requestBytes: config.requestBytes,
      connections: config.connections,
      headerBytes: config.headerBytes,
      headerCount: config.headerCount,
      headerTimeoutMs: config.headerTimeout,
      bodyTimeoutMs: config.bodyTimeout,
      idleTimeoutMs: config.idleTimeout,
      helloTimeoutMs: config.helloTimeout,
    };
    this.#deps = {
      proxy: config.proxy,
      proxyTls: readProxyTls(config),
      proxyTimeoutMs: config.proxyTimeout,
      log,
      measures: createMeasures(metrics),
      now: Date.now,
    };
    this.firstEnded = new Promise((resolve) => {
      this.#ended = resolve;
    });
  }

  get size(): number {
    return this.#attachments.size;
  }

  get clientCertificate(): string {
    return this.#deps.proxyTls?.thumbprint ?? '';
  }

  async open(
    spec: Parameters<ServiceHost['open']>[0],
    events: Parameters<ServiceHost['open']>[1],
  ): Promise<Attachment> {
    const { attachmentId } = spec;
    if (this.#stopping) throw new OutriderError('DRAINING', 'the sidecar is stopping');
    if (this.#attachments.has(attachmentId) || this.#opening.has(attachmentId))
      throw new OutriderError('INVALID_REQUEST', 'this attachment_id is in use');
    this.#opening.add(attachmentId);
    try {
      const attachment = await Attachment.open(spec, { ...this.#deps, ...events });
      this.#attachments.set(attachmentId, attachment);
      return attachment;
    } finally {
      this.#opening.delete(attachmentId);
    }
  }

  async close(attachmentId: string): Promise<void> {
    await this.#attachments.get(attachmentId)?.close();
    this.#attachments.delete(attachmentId);
    this.#ended();
  }

  onStop(stop: () => void): () => void {
    this.#stops.add(stop);
    return () => this.#stops.delete(stop);
  }

  async stop(): Promise<void> {
    this.#stopping = true;
    for (const stop of this.#stops) stop();
    await Promise.all([...this.#attachments.values()].map((attachment) => attachment.close()));
  }
}

/** @throws {OutriderError} ADDRESS_IN_USE */
async function bindGrpc(grpc: Server, address: Address): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    // What is created here is for the owner only, from the first moment.
    const before = process.umask(0o177);
    grpc.bindAsync(formatAddress(address), ServerCredentials.createInsecure(), (error) => {
      process.umask(before);
      if (error)
        reject(
          new OutriderError('ADDRESS_IN_USE', `${formatAddress(address)} cannot be listened on`, {
            cause: error,
          }),
        );
      else resolve();
    });
  });
}

function logFailure(log: Logger, method: string, error: OutriderError, context: CallContext): void {
  const fields = { requestId: context.requestId, error, detail: { method } };
  if (error.code === 'INTERNAL') log.error('a call failed', fields);
  else log.info('a call was refused', fields);
}
