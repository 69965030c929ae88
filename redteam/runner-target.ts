import { type ClientDuplexStream, credentials, Metadata } from '@grpc/grpc-js';
import {
  type Duration,
  type ExecEnd,
  type ExecRequest,
  type ExecResponse,
  ExecServiceClient,
  ExecSpec,
  FileServiceClient,
  type GetCapabilitiesResponse,
  KilledBy,
  OutputOverflow,
  SandboxServiceClient,
  SandboxSpec,
} from '#proto';
import { sourceOf } from './source.ts';
import {
  DEFAULT_OUTPUT_BYTES,
  DEFAULT_TIMEOUT_MS,
  type Layout,
  type Mortal,
  type Program,
  RESOURCES,
  type Room,
  type Run,
  type Target,
} from './target.ts';

/** A probe of every backend starts a sandbox on each. */
const ANSWER_WITHIN_MS = 60_000;
/** Every sandbox of a runner is laid out like this. */
const LAYOUT: Layout = {
  root: '',
  places: { tmp: '/tmp', workspace: '/workspace', output: '/output', shm: '/dev/shm' },
};

/** A runner, spoken to as any gRPC client does. */
export class RunnerClient {
  readonly execs: ExecServiceClient;
  readonly files: FileServiceClient;
  readonly boxes: SandboxServiceClient;

  constructor(address: string) {
    const how = credentials.createInsecure();
    const options = { 'grpc.max_receive_message_length': 8 * 2 ** 20 };
    this.execs = new ExecServiceClient(address, how, options);
    this.files = new FileServiceClient(address, how, options);
    this.boxes = new SandboxServiceClient(address, how, options);
  }

  capabilities(): Promise<GetCapabilitiesResponse> {
    const deadline = Date.now() + ANSWER_WITHIN_MS;
    return new Promise((resolve, reject) => {
      this.boxes.getCapabilities({}, new Metadata(), { deadline }, (error, response) =>
        error ? reject(error) : resolve(response),
      );
    });
  }

  close(): void {
    for (const client of [this.execs, this.files, this.boxes]) client.close();
  }
}

export interface RunnerTargetOptions {
  readonly client: RunnerClient;
  readonly backend: string;
  readonly ownKernel: boolean;
  /** Made anew for each call: assertions are short-lived. Default: the local principal. */
  readonly who?: () => Promise<Metadata>;
  readonly stranger?: Target | undefined;
  readonly mortal?: (() => Promise<Mortal>) | undefined;
}

/** One backend of a runner. */
export function runnerTarget(options: RunnerTargetOptions): Target {
  const { client, backend, ownKernel, who = () => Promise.resolve(new Metadata()) } = options;
  const fresh = (program: Program): ExecSpec['target'] => ({
    $case: 'fresh',
    value: sandboxSpec(backend, program),
  });
  const exec = async (program: Program, target: ExecSpec['target']): Promise<Run> =>
    runExec(client.execs.exec(await who()), specOf(program, target, backend), program);
  const visit = (id: string): Room => ({
    id,
    run: (program) => exec(program, { $case: 'sandboxId', value: id }),
    read: async (path) => read(client, id, path, await who()),
    write: async (path, content) => write(client, id, path, content, await who()),
    close: async () => {
      const metadata = await who();
      await new Promise<void>((resolve) => {
        client.boxes.deleteSandbox({ sandboxId: id, name: '' }, metadata, () => resolve());
      });
    },
  });
  return {
    name: backend,
    ownKernel,
    layout: LAYOUT,
    run: (program) => exec(program, fresh(program)),
    open: async () => visit(await create(client, backend, await who())),
    stranger: options.stranger,
    visit,
    ...(options.mortal ? { mortal: options.mortal } : {}),
  };
}

function sandboxSpec(backend: string, { resources = {} }: Pick<Program, 'resources'>): SandboxSpec {
  return SandboxSpec.fromPartial({ backend, limits: bigLimits({ ...RESOURCES, ...resources }) });
}

function bigLimits({ memoryBytes, diskBytes, ...rest }: typeof RESOURCES) {
  return { ...rest, memoryBytes: BigInt(memoryBytes), diskBytes: BigInt(diskBytes) };
}

function create(client: RunnerClient, backend: string, who: Metadata): Promise<string> {
  const request = { spec: sandboxSpec(backend, {}), name: '', role: '', idempotencyKey: '' };
  return new Promise((resolve, reject) => {
    client.boxes.createSandbox(request, who, (error, response) =>
      error ? reject(error) : resolve(response.sandbox?.sandboxId ?? ''),
    );
  });
}

function specOf(program: Program, target: ExecSpec['target'], backend: string): ExecSpec {
  return ExecSpec.fromPartial({
    target,
    program: {
      $case: 'source',
      value: { language: 'python', code: sourceOf(program, LAYOUT, { backend }) },
    },
    files: Object.entries(program.files ?? {}).map(([path, content]) => ({
      path,
      content: Buffer.from(content),
    })),
    timeout: durationOf(program.timeoutMs ?? DEFAULT_TIMEOUT_MS),
    output: {
      bytes: BigInt(program.outputBytes ?? DEFAULT_OUTPUT_BYTES),
      overflow: OutputOverflow.TRUNCATE,
    },
    openStdin: program.stdin !== undefined,
    purpose: 'redteam',
  });
}

/** Takes the responses to the end. Rejects with a `ServiceError` where the exec could not run. */
async function runExec(
  call: ClientDuplexStream<ExecRequest, ExecResponse>,
  spec: ExecSpec,
  program: Program,
): Promise<Run> {
  const chunks = { stdout: [] as Buffer[], stderr: [] as Buffer[] };
  program.signal?.addEventListener('abort', () => call.cancel(), { once: true });
  call.write({ request: { $case: 'start', value: spec } });
  if (program.stdin !== undefined) {
    call.write({ request: { $case: 'stdin', value: Buffer.from(program.stdin) } });
    call.write({ request: { $case: 'closeStdin', value: {} } });
  }
  let end: ExecEnd | undefined;
  const responses: AsyncIterable<ExecResponse> = call;
  for await (const { response } of responses) {
    if (response?.$case === 'stdout' || response?.$case === 'stderr') {
      chunks[response.$case].push(response.value.data);
      if (response.$case === 'stdout') program.onStdout?.(response.value.data.toString('utf8'));
    } else if (response?.$case === 'end') {
      end = response.value;
      call.end();
    }
  }
  if (!end) throw new Error('the runner ended the stream before the end of the program');
  return runOf(end, Buffer.concat(chunks.stdout), Buffer.concat(chunks.stderr));
}

const NAMES = new Map<number, string>(
  Object.entries(KilledBy).map(([name, value]) => [value, name.toLowerCase()]),
);

function runOf(end: ExecEnd, stdout: Buffer, stderr: Buffer): Run {
  return {
    stdout,
    stderr,
    total: { stdout: Number(end.stdout?.total ?? 0), stderr: Number(end.stderr?.total ?? 0) },
    killedBy: NAMES.get(end.killedBy) ?? 'unspecified',
    signal: end.signal,
    exitCode: end.exitCode,
    wallMs: msOf(end.usage?.wall),
    artefacts: end.artefacts.map(({ path, size, content }) => ({
      path,
      size: Number(size),
      content,
    })),
  };
}

async function read(client: RunnerClient, id: string, path: string, who: Metadata) {
  const parts: Buffer[] = [];
  const request = { sandboxId: id, path, offset: 0n, length: 0n };
  const responses: AsyncIterable<{ data: Buffer }> = client.files.readFile(request, who);
  for await (const { data } of responses) parts.push(data);
  return Buffer.concat(parts);
}

function write(client: RunnerClient, id: string, path: string, content: string, who: Metadata) {
  return new Promise<void>((resolve, reject) => {
    const call = client.files.writeFile(who, (error) => (error ? reject(error) : resolve()));
    call.on('error', () => {}); // told by the answer
    call.write({ request: { $case: 'start', value: { sandboxId: id, path, mode: 0o644 } } });
    call.write({ request: { $case: 'data', value: Buffer.from(content) } });
    call.end();
  });
}

function durationOf(ms: number): Duration {
  const seconds = Math.floor(ms / 1000);
  return { seconds: BigInt(seconds), nanos: Math.round((ms - seconds * 1000) * 1e6) };
}

function msOf(duration: Duration | undefined): number {
  return duration ? Number(duration.seconds) * 1000 + duration.nanos / 1e6 : 0;
}
