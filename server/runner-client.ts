import { credentials, Metadata } from '@grpc/grpc-js';
import { type Address, formatAddress } from '#core/address';
import { OutriderError } from '#core/errors';
import { fromServiceError } from '#core/grpc';
import {
  type Datasource,
  ExecServiceClient,
  type HoldPlaceResponse,
  type ListSandboxesResponse,
  Load,
  type ReadArtefactResponse,
  type RunRequest,
  type RunResponse,
  type Sandbox,
  SandboxServiceClient,
  type WatchDatasourcesResponse,
} from '#proto';

/** On whose behalf a program runs, and for how long its answer is waited for. */
export interface RunContext {
  /** The caller's assertion as the gateway signed it; the runner verifies it again. */
  readonly assertion: string;
  /** principalKey of the caller. */
  readonly owner: string;
  readonly requestId: string;
  readonly deadlineMs: number;
  readonly signal: AbortSignal;
}

/** What this server needs of a runner. */
export interface Runner {
  /** @throws {OutriderError} the runner's own code; CANCELLED when `signal` is aborted; UPSTREAM_UNREACHABLE */
  run(request: RunRequest, context: RunContext): Promise<RunResponse>;
  /** The caller's named sandboxes. @throws {OutriderError} as `run` */
  sessions(context: RunContext): Promise<Sandbox[]>;
  /**
   * A whole file that an exec of the caller's left in /output, of at most 8 MiB.
   * @throws {OutriderError} EXEC_NOT_FOUND, FILE_NOT_FOUND, BODY_TOO_LARGE, and as `run`
   */
  readArtefact(execId: string, path: string, context: RunContext): Promise<Buffer>;
  /** Ends one by its name; one that is gone is no error. @throws {OutriderError} as `run` */
  endSession(name: string, context: RunContext): Promise<void>;
  /**
   * Ends what the caller runs under a key, whichever runner runs it. Where that is nothing, nothing changes. What is at no runner yet, or
   * at one that does not answer, goes on.
   * @throws {OutriderError} as `run`
   */
  cancel(cancelKey: string, context: RunContext): Promise<void>;
  /**
   * The datasources that the caller's role may ask, and again the whole list whenever it has changed, until `signal` is aborted; there is
   * no deadline. @throws {OutriderError} as `run`, and while iterating when the runner is lost
   */
  watchDatasources(
    context: Omit<RunContext, 'deadlineMs'>,
  ): AsyncGenerator<readonly Datasource[], void, undefined>;
  /** Undefined when the runner answers within `timeoutMs`, and says that it can run programs, otherwise what a person should know. */
  problem(timeoutMs: number): Promise<string | undefined>;
  close(): void;
}

/** What a runner says of itself. */
export interface RunnerState {
  readonly runnerId: string;
  readonly running: number;
  readonly capacity: number;
  readonly draining: boolean;
  /** Something is missing that programs need. */
  readonly unready: boolean;
}

export const UNREADY = 'no runner is ready: their own /readyz says why';

/** One runner. */
export interface RunnerClient extends Runner {
  /** @throws {OutriderError} UPSTREAM_UNREACHABLE and the like where it does not answer within `timeoutMs` */
  state(timeoutMs: number): Promise<RunnerState>;
  /**
   * Counts an exec of the caller's there that another runner runs, until `release`.
   * @throws {OutriderError} QUOTA_EXCEEDED, and what keeps the runner from answering
   */
  hold(role: string, context: RunContext): Promise<() => void>;
}

/** In one answer of MCP, where it takes a third more as base64. */
const ARTEFACT_MAX_BYTES = 8 * 2 ** 20;
/** Above the 3 MiB that the contract allows for one response. */
const RESPONSE_MAX_BYTES = 8 * 2 ** 20;

/** A runner over gRPC. Connects when it is first used, and again whenever the connection was lost. */
export function connectRunner(address: Address): RunnerClient {
  const channel = {
    'grpc.max_receive_message_length': RESPONSE_MAX_BYTES,
    // A restarted runner is found again quickly; the default grows to two minutes.
    'grpc.initial_reconnect_backoff_ms': 100,
    'grpc.max_reconnect_backoff_ms': 2_000,
    // A proxy named in the environment must never see assertions or code.
    'grpc.enable_http_proxy': 0,
  };
  const client = new ExecServiceClient(
    formatAddress(address),
    credentials.createInsecure(),
    channel,
  );
  // On the connection of the other.
  const sandboxes = new SandboxServiceClient(formatAddress(address), credentials.createInsecure(), {
    ...channel,
    channelOverride: client.getChannel(),
  });

  const state = (timeoutMs: number): Promise<RunnerState> =>
    new Promise((resolve, reject) => {
      const options = { deadline: Date.now() + timeoutMs };
      sandboxes.getCapabilities({}, new Metadata(), options, (error, response) => {
        if (error) reject(fromServiceError(error));
        else {
          const load = response.load ?? Load.fromPartial({});
          resolve({ runnerId: response.runnerId, ...load });
        }
      });
    });
  return {
    run: (request, { assertion, requestId, deadlineMs, signal }) =>
      new Promise((resolve, reject) => {
        if (signal.aborted) {
          reject(new OutriderError('CANCELLED', 'the call was cancelled'));
          return;
        }
        const metadata = metadataOf({ assertion, requestId });
        const options = { deadline: Date.now() + deadlineMs };
        const call = client.run(request, metadata, options, (error, response) => {
          signal.removeEventListener('abort', cancel);
          if (error) reject(fromServiceError(error));
          else resolve(response);
        });
        const cancel = () => call.cancel();
        signal.addEventListener('abort', cancel, { once: true });
      }),
    async sessions(context) {
      const found: Sandbox[] = [];
      let pageToken = '';
      do {
        const page = await new Promise<ListSandboxesResponse>((resolve, reject) => {
          const options = { deadline: Date.now() + context.deadlineMs };
          sandboxes.listSandboxes(
            { pageSize: 0, pageToken },
            metadataOf(context),
            options,
            (error, response) => (error ? reject(fromServiceError(error)) : resolve(response)),
          );
        });
        found.push(...page.sandboxes.filter(({ name }) => name !== ''));
        pageToken = page.nextPageToken;
      } while (pageToken !== '');
      return found;
    },
    async readArtefact(execId, path, context) {
      const options = { deadline: Date.now() + context.deadlineMs };
      const call = client.readArtefact({ execId, path }, metadataOf(context), options);
      const cancel = () => call.cancel();
      context.signal.addEventListener('abort', cancel, { once: true });
      const parts: Buffer[] = [];
      let size = 0;
      try {
        for await (const part of call) {
          const { data }: ReadArtefactResponse = part;
          size += data.length;
          if (size > ARTEFACT_MAX_BYTES) throw tooLarge();
          parts.push(data);
        }
        return Buffer.concat(parts);
      } catch (error) {
        throw fromServiceError(error);
      } finally {
        context.signal.removeEventListener('abort', cancel);
        call.cancel();
      }
    },
    endSession: (name, context) =>
      new Promise((resolve, reject) => {
        const options = { deadline: Date.now() + context.deadlineMs };
        sandboxes.deleteSandbox({ sandboxId: '', name }, metadataOf(context), options, (error) =>
          error ? reject(fromServiceError(error)) : resolve(),
        );
      }),
    cancel: (cancelKey, context) =>
      new Promise((resolve, reject) => {
        const options = { deadline: Date.now() + context.deadlineMs };
        const request = { execId: '', cancelKey };
        client.cancelExec(request, metadataOf(context), options, (error) =>
          error ? reject(fromServiceError(error)) : resolve(),
        );
      }),
    async *watchDatasources(context) {
      const call = sandboxes.watchDatasources({ role: '' }, metadataOf(context));
      const cancel = () => call.cancel();
      context.signal.addEventListener('abort', cancel, { once: true });
      try {
        for await (const part of call) {
          const { datasources }: WatchDatasourcesResponse = part;
          yield datasources;
        }
      } catch (error) {
        if (!context.signal.aborted) throw fromServiceError(error);
      } finally {
        context.signal.removeEventListener('abort', cancel);
        call.on('error', () => {}); // what was cancelled says so
        call.cancel();
      }
    },
    state,
    hold: (role, context) =>
      new Promise((resolve, reject) => {
        const options = { deadline: Date.now() + context.deadlineMs };
        const call = client.holdPlace({ role }, metadataOf(context), options);
        call.on('data', (_held: HoldPlaceResponse) => resolve(() => call.cancel()));
        call.on('error', (error) => reject(fromServiceError(error)));
        call.on('end', () => reject(new OutriderError('UPSTREAM_LOST', 'the runner is stopping')));
      }),
    problem: (timeoutMs) =>
      state(timeoutMs).then(
        ({ unready }) => (unready ? UNREADY : undefined),
        () => 'the runner does not answer',
      ),
    close: () => client.close(),
  };
}

function tooLarge(): OutriderError {
  return new OutriderError(
    'BODY_TOO_LARGE',
    `the file is larger than ${ARTEFACT_MAX_BYTES} bytes: fetch it with ReadArtefact of the runner's gRPC service, or leave smaller ones`,
  );
}

function metadataOf({
  assertion,
  requestId,
}: Pick<RunContext, 'assertion' | 'requestId'>): Metadata {
  const metadata = new Metadata();
  metadata.set('authorization', `Bearer ${assertion}`);
  metadata.set('x-request-id', requestId);
  return metadata;
}
