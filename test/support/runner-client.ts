import assert from 'node:assert/strict';
import {
  type CallOptions,
  type ClientDuplexStream,
  type ClientUnaryCall,
  credentials,
  Metadata,
  type ServiceError,
} from '@grpc/grpc-js';
import {
  type ExecEnd,
  type ExecRequest,
  type ExecResponse,
  ExecServiceClient,
  ExecSpec,
  type GetCapabilitiesResponse,
  type GetExecResponse,
  KilledBy,
  OutputOverflow,
  type RunResponse,
  SandboxServiceClient,
} from '#proto';

/** What a test or a bench wants run; everything absent is the runner's default. */
export interface ProgramAsk {
  readonly code: string;
  /** Default "python". */
  readonly language?: string;
  /** Both of a fresh sandbox; empty for the role's and the runner's. */
  readonly profile?: string;
  readonly backend?: string;
  readonly role?: string;
  readonly args?: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  readonly files?: Readonly<Record<string, string>>;
  readonly stdin?: string;
  readonly openStdin?: boolean;
  readonly timeoutMs?: number;
  /** The call's own deadline, from now. */
  readonly deadlineMs?: number;
  readonly outputBytes?: number;
  readonly overflow?: 'truncate' | 'kill';
}

export type Response = NonNullable<ExecResponse['response']>;

/** An Exec stream whose program is started. */
export interface ExecStream {
  readonly call: ClientDuplexStream<ExecRequest, ExecResponse>;
  readonly send: (request: NonNullable<ExecRequest['request']>) => void;
  /** Every response; throws the call's ServiceError. Leaving early cancels the call. */
  readonly responses: AsyncGenerator<Response, void, undefined>;
}

/** The runner's services as promises and streams, by the generated clients alone. */
export class RunnerClient {
  readonly #execs: ExecServiceClient;
  readonly #boxes: SandboxServiceClient;

  constructor(address: string) {
    const options = {
      'grpc.max_receive_message_length': 8 * 2 ** 20,
      // A part that was killed is back within a second: so is the connection to it.
      'grpc.initial_reconnect_backoff_ms': 50,
      'grpc.max_reconnect_backoff_ms': 250,
    };
    this.#execs = new ExecServiceClient(address, credentials.createInsecure(), options);
    this.#boxes = new SandboxServiceClient(address, credentials.createInsecure(), options);
  }

  run(ask: ProgramAsk): Promise<RunResponse> {
    return answer((done) =>
      this.#execs.run({ spec: specOf(ask) }, new Metadata(), within(ask.deadlineMs), done),
    );
  }

  exec(ask: ProgramAsk): ExecStream {
    const call = this.#execs.exec(new Metadata(), within(ask.deadlineMs));
    call.on('error', () => {}); // whoever reads the responses gets it
    call.write({ request: { $case: 'start', value: specOf(ask) } });
    return {
      call,
      send: (request) => {
        if (!call.writableEnded && !call.destroyed) call.write({ request });
      },
      responses: responsesOf(call),
    };
  }

  getExec(execId: string, deadlineMs = 5_000): Promise<GetExecResponse> {
    return answer((done) =>
      this.#execs.getExec({ execId }, new Metadata(), within(deadlineMs), done),
    );
  }

  async cancelExec(execId: string): Promise<void> {
    await answer((done) =>
      this.#execs.cancelExec({ execId, cancelKey: '' }, new Metadata(), within(5_000), done),
    );
  }

  capabilities(): Promise<GetCapabilitiesResponse> {
    return answer((done) => this.#boxes.getCapabilities({}, new Metadata(), within(20_000), done));
  }

  /** Waits for a connection: a call right after the runner came back would fail for want of one. */
  async connected(withinMs = 60_000): Promise<void> {
    const deadline = Date.now() + withinMs;
    for (const client of [this.#execs, this.#boxes])
      await new Promise<void>((resolve, reject) => {
        client.waitForReady(deadline, (error) => (error ? reject(error) : resolve()));
      });
  }

  close(): void {
    this.#execs.close();
    this.#boxes.close();
  }
}

/** The message that starts a program. */
export function specOf(ask: ProgramAsk): ExecSpec {
  const { code, language = 'python', args = [], env = {}, files = {}, stdin } = ask;
  return ExecSpec.fromPartial({
    target: {
      $case: 'fresh',
      value: { profile: ask.profile ?? '', backend: ask.backend ?? '' },
    },
    program: { $case: 'source', value: { language, code, args: [...args] } },
    role: ask.role ?? '',
    env: { ...env },
    files: Object.entries(files).map(([path, content]) => ({
      path,
      content: Buffer.from(content),
    })),
    timeout: ask.timeoutMs === undefined ? undefined : durationOf(ask.timeoutMs),
    output: {
      bytes: BigInt(ask.outputBytes ?? 0),
      overflow: ask.overflow === 'kill' ? OutputOverflow.KILL : OutputOverflow.TRUNCATE,
    },
    openStdin: ask.openStdin ?? false,
    stdin: Buffer.from(stdin ?? ''),
  });
}

const ENDS = new Map<number, string>(
  Object.entries(KilledBy).map(([name, value]) => [value, name.toLowerCase()]),
);

/** How a program ended, in the words of the contract: `exit`, `timeout`, ... */
export function killedBy(end: ExecEnd | undefined): string {
  return (end && ENDS.get(end.killedBy)) ?? 'unspecified';
}

/** Our code of a failed call, or gRPC's own where the runner did not make the failure. */
export function failureOf(error: unknown): string {
  assert.ok(error instanceof Error, String(error));
  const { code, metadata } = error as Partial<ServiceError>; // oxlint-disable-line typescript/no-unsafe-type-assertion -- every field may be missing
  const [own] = metadata?.get('outrider-error-code') ?? [];
  if (own !== undefined) return String(own);
  return code === undefined ? `not a gRPC error: ${error.message}` : `GRPC_${code}`;
}

async function* responsesOf(
  call: ClientDuplexStream<ExecRequest, ExecResponse>,
): AsyncGenerator<Response, void, undefined> {
  let over = false;
  try {
    for await (const message of call as AsyncIterable<ExecResponse>) {
      const { response } = message;
      if (!response) continue;
      over = response.$case === 'end';
      if (over) call.end();
      yield response;
    }
  } finally {
    if (!over) call.cancel();
  }
}

function answer<T>(
  send: (done: (error: ServiceError | null, response: T) => void) => ClientUnaryCall,
): Promise<T> {
  return new Promise((resolve, reject) => {
    send((error, response) => (error ? reject(error) : resolve(response)));
  });
}

function within(deadlineMs: number | undefined): Partial<CallOptions> {
  return deadlineMs === undefined ? {} : { deadline: Date.now() + deadlineMs };
}

function durationOf(ms: number): { seconds: bigint; nanos: number } {
  const seconds = Math.floor(ms / 1000);
  return { seconds: BigInt(seconds), nanos: Math.round((ms - seconds * 1000) * 1e6) };
}
