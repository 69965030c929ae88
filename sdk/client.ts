import { join } from 'node:path';
import {
  type ClientDuplexStream,
  credentials,
  Metadata,
  type ServiceError,
  status,
} from '@grpc/grpc-js';
import {
  type Duration,
  type ExecEnd,
  type ExecRequest,
  type ExecResponse,
  ExecServiceClient,
  type ExecSpec,
  KilledBy,
  OutputOverflow,
  type RunResponse,
  SandboxSpec,
} from '#proto';

export interface ConnectOptions {
  /** `unix:/path` or `host:port`. Default: the socket of the mesh that `outrider up` runs for this user. */
  readonly address?: string;
  /** A principal assertion; not needed on the local socket. */
  readonly token?: string;
}

export interface ProgramOptions {
  /** "python" (the default), "javascript", "typescript" or "shell"; one that the profile runs. */
  readonly language?: string;
  /** The sandbox's, e.g. "node". Default: the role's first. */
  readonly profile?: string;
  readonly args?: readonly string[];
  readonly fileName?: string;
  readonly env?: Readonly<Record<string, string>>;
  /** Files to write before the start, by path relative to /workspace. */
  readonly files?: Readonly<Record<string, string | Uint8Array>>;
  /** Wall time in milliseconds. Default and maximum come from the role. */
  readonly timeoutMs?: number;
  /** Keep the workspace under this name between programs. */
  readonly session?: string;
  /**
   * What is installed before the program, as pip ("requests==2.32.3") or npm ("left-pad@^1.3") spells it. In a session: with its
   * first program. The role and the runner must allow it.
   */
  readonly dependencies?: readonly {
    readonly manager: 'pip' | 'npm';
    readonly requirement: string;
  }[];
  /** Needed only where the caller has several roles. */
  readonly role?: string;
  /** The same key within 10 minutes is the same run, however often it is asked for: for calls that are tried again. */
  readonly idempotencyKey?: string;
  /** The caller's own, shown by GetExec and in events. */
  readonly labels?: Readonly<Record<string, string>>;
  readonly stdin?: string | Uint8Array;
  /** Ends the program when aborted. */
  readonly signal?: AbortSignal;
}

/** How a program ended. `killedBy` is "exit" where it ended by itself. */
export interface ProgramEnd {
  readonly killedBy: string;
  readonly exitCode: number | undefined;
  readonly detail: string;
  readonly wallMs: number;
  /** Everything that the runner reported. */
  readonly raw: ExecEnd;
}

export interface ProgramResult extends ProgramEnd {
  readonly stdout: string;
  readonly stderr: string;
}

/** A running program with its streams open. */
export interface Execution {
  /** What it writes, as it comes, then its end. Leaving before the end ends the program. */
  readonly events: AsyncIterable<
    { stream: 'stdout' | 'stderr'; data: Buffer } | { stream: 'end'; end: ProgramEnd }
  >;
  write(data: string | Uint8Array): void;
  closeStdin(): void;
  /** A POSIX signal number. */
  kill(signal: number): void;
}

export interface Outrider {
  /** Runs a program in a fresh sandbox, or in a session, to its end. Rejects with a `ServiceError` where it could not run. */
  run(code: string, options?: ProgramOptions): Promise<ProgramResult>;
  /** Starts a program and leaves its streams open. */
  start(code: string, options?: ProgramOptions): Execution;
  close(): void;
}

/** A client of a runner. */
export function connect({ address = defaultAddress(), token }: ConnectOptions = {}): Outrider {
  const client = new ExecServiceClient(address, credentials.createInsecure(), {
    'grpc.max_receive_message_length': 8 * 2 ** 20,
  });
  const metadata = new Metadata();
  if (token !== undefined) metadata.set('authorization', `Bearer ${token}`);

  return {
    close: () => client.close(),
    run: (code, options = {}) =>
      new Promise((resolve, reject) => {
        const call = client.run(
          { spec: specOf(code, options, false) },
          metadata,
          (error: ServiceError | null, response: RunResponse) => {
            if (error) reject(error);
            else
              resolve({
                ...endOf(response.end),
                stdout: response.stdout.toString('utf8'),
                stderr: response.stderr.toString('utf8'),
              });
          },
        );
        options.signal?.addEventListener('abort', () => call.cancel(), { once: true });
      }),
    start(code, options = {}) {
      const call = client.exec(metadata);
      call.on('error', () => {}); // whoever takes the events gets it
      const send = (request: ExecRequest['request']) => {
        if (!call.writableEnded) call.write({ request }); // the program may have ended meanwhile
      };
      send({ $case: 'start', value: specOf(code, options, true) });
      options.signal?.addEventListener('abort', () => call.cancel(), { once: true });
      return {
        write: (data) => send({ $case: 'stdin', value: Buffer.from(data) }),
        closeStdin: () => send({ $case: 'closeStdin', value: {} }),
        kill: (signal) => send({ $case: 'signal', value: signal }),
        events: eventsOf(call),
      };
    },
  };
}

/** Where `outrider up` serves gRPC for this user. */
export function defaultAddress(
  env: Readonly<Record<string, string | undefined>> = process.env,
): string {
  const uid = process.getuid?.() ?? 0;
  const runtime =
    env['OUTRIDER_RUNTIME_DIR'] ||
    (uid === 0
      ? '/run/outrider'
      : env['XDG_RUNTIME_DIR']
        ? join(env['XDG_RUNTIME_DIR'], 'outrider')
        : `/tmp/outrider-${uid}`);
  return `unix:${join(runtime, 'runner.sock')}`;
}

async function* eventsOf(
  call: ClientDuplexStream<ExecRequest, ExecResponse>,
): AsyncGenerator<
  { stream: 'stdout' | 'stderr'; data: Buffer } | { stream: 'end'; end: ProgramEnd }
> {
  let over = false;
  try {
    for await (const { response } of call) {
      if (response?.$case === 'stdout' || response?.$case === 'stderr')
        yield { stream: response.$case, data: response.value.data };
      else if (response?.$case === 'end') {
        over = true;
        call.end();
        yield { stream: 'end', end: endOf(response.value) };
      }
    }
  } finally {
    if (!over) call.cancel(); // who stops listening does not want it to go on
  }
}

function specOf(code: string, options: ProgramOptions, openStdin: boolean): ExecSpec {
  const {
    language = 'python',
    args = [],
    fileName = '',
    env = {},
    files = {},
    timeoutMs,
    session,
    profile = '',
    dependencies = [],
    role = '',
    stdin,
    idempotencyKey = '',
    labels = {},
  } = options;
  const sandbox = SandboxSpec.fromPartial({ profile, dependencies: [...dependencies] });
  return {
    target:
      session === undefined
        ? { $case: 'fresh', value: sandbox }
        : { $case: 'session', value: { name: session, create: sandbox, mustExist: false } },
    program: { $case: 'source', value: { language, code, fileName, args: [...args] } },
    role,
    env: { ...env },
    workingDirectory: '',
    files: Object.entries(files).map(([path, content]) => ({
      path,
      content: Buffer.from(content),
      mode: 0,
    })),
    timeout: timeoutMs === undefined ? undefined : durationOf(timeoutMs),
    output: { bytes: 0n, overflow: OutputOverflow.UNSPECIFIED },
    openStdin,
    stdin: stdin === undefined ? Buffer.alloc(0) : Buffer.from(stdin),
    idempotencyKey,
    terminal: undefined,
    contextId: '',
    labels: { ...labels },
    purpose: 'sdk',
    detachGrace: undefined,
    cancelKey: '',
  };
}

const NAMES = new Map<number, string>(
  Object.entries(KilledBy).map(([name, value]) => [value, name.toLowerCase()]),
);

function endOf(end: ExecEnd | undefined): ProgramEnd {
  if (!end) throw Object.assign(new Error('the runner reported no end'), { code: status.INTERNAL });
  const wall = end.usage?.wall;
  return {
    killedBy: NAMES.get(end.killedBy) ?? 'unspecified',
    exitCode: end.exitCode,
    detail: end.detail,
    wallMs: wall ? Number(wall.seconds) * 1000 + wall.nanos / 1e6 : 0,
    raw: end,
  };
}

function durationOf(ms: number): Duration {
  const seconds = Math.floor(ms / 1000);
  return { seconds: BigInt(seconds), nanos: Math.round((ms - seconds * 1000) * 1e6) };
}
