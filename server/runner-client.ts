import { credentials, Metadata } from '@grpc/grpc-js';
import { type Address, formatAddress } from '#core/address';
import { OutriderError } from '#core/errors';
import { fromServiceError } from '#core/grpc';
import { ExecServiceClient, type RunRequest, type RunResponse } from '#proto';

/** On whose behalf a program runs, and for how long its answer is waited for. */
export interface RunContext {
  /** The caller's assertion as the gateway signed it; the runner verifies it again. */
  readonly assertion: string;
  readonly requestId: string;
  readonly deadlineMs: number;
  readonly signal: AbortSignal;
}

/** What this server needs of a runner. */
export interface Runner {
  /** @throws {OutriderError} the runner's own code; CANCELLED when `signal` is aborted; UPSTREAM_UNREACHABLE */
  run(request: RunRequest, context: RunContext): Promise<RunResponse>;
  /** Undefined when the runner answers within `timeoutMs`, otherwise what a person should know. */
  problem(timeoutMs: number): Promise<string | undefined>;
  close(): void;
}

/** Above the 3 MiB that the contract allows for one response. */
const RESPONSE_MAX_BYTES = 8 * 2 ** 20;

/** A runner over gRPC. Connects when it is first used, and again whenever the connection was lost. */
export function connectRunner(address: Address): Runner {
  const client = new ExecServiceClient(formatAddress(address), credentials.createInsecure(), {
    'grpc.max_receive_message_length': RESPONSE_MAX_BYTES,
    // A restarted runner is found again quickly; the default grows to two minutes.
    'grpc.initial_reconnect_backoff_ms': 100,
    'grpc.max_reconnect_backoff_ms': 2_000,
    // A proxy named in the environment must never see assertions or code.
    'grpc.enable_http_proxy': 0,
  });

  return {
    run: (request, { assertion, requestId, deadlineMs, signal }) =>
      new Promise((resolve, reject) => {
        if (signal.aborted) {
          reject(new OutriderError('CANCELLED', 'the call was cancelled'));
          return;
        }
        const metadata = new Metadata();
        metadata.set('authorization', `Bearer ${assertion}`);
        metadata.set('x-request-id', requestId);
        const options = { deadline: Date.now() + deadlineMs };
        const call = client.run(request, metadata, options, (error, response) => {
          signal.removeEventListener('abort', cancel);
          if (error) reject(fromServiceError(error));
          else resolve(response);
        });
        const cancel = () => call.cancel();
        signal.addEventListener('abort', cancel, { once: true });
      }),
    problem: (timeoutMs) =>
      new Promise((resolve) => {
        client.waitForReady(Date.now() + timeoutMs, (error) =>
          resolve(error ? 'the runner does not answer' : undefined),
        );
      }),
    close: () => client.close(),
  };
}
