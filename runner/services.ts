import type { Server } from '@grpc/grpc-js';
import type { Report } from '#core/grpc';
import type { GrpcHealth } from '#core/grpc-health';
import { addReflection } from '#core/grpc-reflection';
import type { Logger } from '#core/log';
import {
  ExecServiceService,
  FileServiceService,
  HealthService,
  RevocationServiceService,
  SandboxServiceService,
} from '#proto';
import type { IdentifyCaller } from './callers.ts';
import { type ExecServiceDeps, execService } from './exec-service.ts';
import { fileService } from './file-service.ts';
import { encodeExecResponse } from './output-message.ts';
import { revocationService } from './revocation-service.ts';
import { type SandboxServiceDeps, sandboxService } from './sandbox-service.ts';

/** The services that health is asked about. */
export const SERVICES = [
  'outrider.runner.v1.ExecService',
  'outrider.runner.v1.SandboxService',
  'outrider.runner.v1.FileService',
];

/** Its output is encoded with fewer copies than the generated code makes. */
const EXEC_SERVICE: typeof ExecServiceService = {
  ...ExecServiceService,
  exec: { ...ExecServiceService.exec, responseSerialize: encodeExecResponse },
};

/** What every listener of one runner shares. */
export interface ServicesDeps extends ExecServiceDeps, SandboxServiceDeps {
  readonly health: GrpcHealth;
  readonly log: Logger;
}

/**
 * Adds all that a runner serves; who calls is told by `identify`, which differs from listener to listener. `ofTheMesh`: only the mesh can
 * open the listener, so that a proxy needs no assertion there.
 */
export function addServices(
  server: Server,
  deps: ServicesDeps,
  identify: IdentifyCaller,
  ofTheMesh: boolean,
): void {
  const report: Report = (method, error, { requestId }) => {
    const level = error.code === 'INTERNAL' || error.code === 'SANDBOX_FAILED' ? 'error' : 'info';
    deps.log[level](`${method} failed`, { error, requestId });
  };
  server.addService(EXEC_SERVICE, execService(deps, identify, report));
  server.addService(SandboxServiceService, sandboxService(deps, identify, report));
  server.addService(FileServiceService, fileService(deps.runner, identify, report));
  server.addService(
    RevocationServiceService,
    revocationService(deps.runner.revocations, ofTheMesh ? async () => {} : identify, report),
  );
  server.addService(HealthService, deps.health.service(report));
  const others = ['outrider.runner.v1.RevocationService', 'grpc.health.v1.Health'];
  addReflection(server, [...SERVICES, ...others], report);
}
