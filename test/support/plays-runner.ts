import { Server, ServerCredentials, status } from '@grpc/grpc-js';
import { type Address, formatAddress, parseAddress } from '#core/address';
import { OutriderError } from '#core/errors';
import { type CallContext, unary, unimplemented } from '#core/grpc';
import {
  type CancelExecRequest,
  type ExecServiceServer,
  ExecServiceService,
  GetCapabilitiesResponse,
  type RunRequest,
  type RunResponse,
  type SandboxServiceServer,
  SandboxServiceService,
} from '#proto';

/** How the player answers a `Run`; it is aborted by `CancelExec` with its key, too. */
export type Play = (request: RunRequest, context: CallContext) => Promise<RunResponse>;

/**
 * A gRPC server that plays the runner in tests of the parts before it: a real ExecService on a free port of 127.0.0.1 that
 * answers `Run` as told, says that it is ready, takes all callers for one, and runs no program.
 */
export async function playRunner(play: Play): Promise<{ address: Address; close: () => void }> {
  const server = new Server();
  const absent = (method: string) =>
    unary(
      method,
      async () => unimplemented(method),
      () => {},
    );
  const running = new Map<string, AbortController>();
  const service: ExecServiceServer = {
    run: unary(
      'Run',
      (request: RunRequest, context) => {
        const cancelled = new AbortController();
        const key = request.spec?.cancelKey ?? '';
        if (key !== '') running.set(key, cancelled);
        const signal = AbortSignal.any([context.signal, cancelled.signal]);
        return play(request, { ...context, signal }).finally(() => running.delete(key));
      },
      () => {},
    ),
    exec: (call) => call.end(),
    resumeExec: (call) => call.end(),
    readArtefact: (call) => call.end(),
    watchEvents: (call) => call.end(),
    holdPlace: (call) => call.end(),
    getExec: absent('GetExec'),
    cancelExec: unary(
      'CancelExec',
      async ({ cancelKey }: CancelExecRequest) => {
        running.get(cancelKey)?.abort(new OutriderError('CANCELLED', 'cancelled'));
        return {};
      },
      () => {},
    ),
  };
  const sandboxes: SandboxServiceServer = {
    createSandbox: absent('CreateSandbox'),
    getSandbox: absent('GetSandbox'),
    listSandboxes: absent('ListSandboxes'),
    deleteSandbox: absent('DeleteSandbox'),
    watchDatasources: (call) => void call.emit('error', { code: status.UNIMPLEMENTED }),
    getCapabilities: unary(
      'GetCapabilities',
      async () =>
        GetCapabilitiesResponse.fromPartial({ runnerId: 'played', load: { capacity: 64 } }),
      () => {},
    ),
  };
  server.addService(ExecServiceService, service);
  server.addService(SandboxServiceService, sandboxes);
  const port = await new Promise<number>((resolve, reject) => {
    server.bindAsync('127.0.0.1:0', ServerCredentials.createInsecure(), (error, bound) =>
      error ? reject(error) : resolve(bound),
    );
  });
  return { address: parseAddress(`127.0.0.1:${port}`), close: () => server.forceShutdown() };
}

/** The address as a URL of the MCP endpoint there. */
export function mcpUrl(address: Address): URL {
  return new URL(`http://${formatAddress(address)}/mcp`);
}
