import { OutriderError } from '#core/errors';
import {
  bidiStream,
  type CallContext,
  type Report,
  serverStream,
  unary,
  unimplemented,
} from '#core/grpc';
import { principalKey } from '#core/principal';
import {
  type ExecRequest,
  type ExecResponse,
  type ExecServiceServer,
  ExecSpec,
  type RunResponse,
} from '#proto';
import type { Artefact, ArtefactStore } from './artefacts.ts';
import type { IdentifyCaller } from './callers.ts';
import type { CancelKeys } from './cancel-keys.ts';
import { collect, type ExecEvent } from './exec.ts';
import type { ExecFacts } from './exec-facts.ts';
import { keptAlive } from './keep-alive.ts';
import { endMessage, execAsk, startedMessage } from './messages.ts';
import { eventMessage } from './messages-events.ts';
import type { OpenCalls } from './open-calls.ts';
import { joinOutput } from './output.ts';
import type { Runner } from './runner.ts';
import type { Attached, SharedRuns } from './shared-runs.ts';

/** What one answer of Run holds: of each stream, and of streams and artefacts together. More goes by Exec. */
const RUN_OUTPUT_MAX_BYTES = 2 ** 20;
const RUN_ANSWER_MAX_BYTES = 3 * 2 ** 20;
const SIGNALS = new Set([1, 2, 3, 9, 10, 12, 15, 18, 19, 28]);

/** An Exec stream is never silent for longer; half of what the contract says, for the way. */
const KEEP_ALIVE_MS = 7_500;

export interface ExecServiceDeps {
  readonly runner: Runner;
  readonly runs: SharedRuns;
  readonly artefacts: Pick<ArtefactStore, 'open'>;
  /** Of Run and Exec. */
  readonly calls: OpenCalls;
  readonly cancelKeys: CancelKeys;
}

/** ExecService over a `Runner`: what is sent becomes ours, what is ours is sent. */
export function execService(
  deps: ExecServiceDeps,
  identify: IdentifyCaller,
  report: Report,
): ExecServiceServer {
  const { runner, runs, artefacts, calls, cancelKeys } = deps;
  return {
    run: unary(
      'Run',
      async ({ spec }, context): Promise<RunResponse> => {
        const caller = await identify(context);
        const owner = principalKey(caller.principal);
        calls.enter(owner, context.signal);
        const signal = cancelKeys.enter(owner, spec?.cancelKey ?? '', context.signal);
        const heeded = { requestId: context.requestId, signal };
        const ask = { ...execAsk(spec, heeded), outputMaxBytes: RUN_OUTPUT_MAX_BYTES };
        const attached = await runs.begin(
          caller,
          ask,
          spec?.idempotencyKey ?? '',
          asked('Run', spec),
        );
        const { facts } = attached;
        if (attached.first && ask.openStdin) void feed(attached, spec?.stdin ?? Buffer.alloc(0));
        const { stdout, stderr, ending } = await collect(attached.events);
        const [out, err] = [joinOutput(stdout), joinOutput(stderr)];
        const room = RUN_ANSWER_MAX_BYTES - out.length - err.length;
        return {
          started: startedMessage(facts, runner.runnerId),
          stdout: out,
          stderr: err,
          results: [],
          end: endMessage({ ...ending, artefacts: inlineWithin(room, ending.artefacts) }, facts),
        };
      },
      report,
    ),

    exec: bidiStream(
      'Exec',
      (requests, context) => execStream(deps, identify, requests, context),
      report,
    ),

    getExec: unary(
      'GetExec',
      async ({ execId }, context) => {
        const { facts, ending } = runner.findExec(await identify(context), execId);
        return {
          started: startedMessage(facts, runner.runnerId),
          end: ending && endMessage(ending, facts),
          labels: { ...facts.labels },
        };
      },
      report,
    ),

    cancelExec: unary(
      'CancelExec',
      async ({ execId, cancelKey }, context) => {
        const caller = await identify(context);
        if ((execId === '') === (cancelKey === ''))
          throw new OutriderError('INVALID_REQUEST', 'name one of exec_id and cancel_key');
        if (cancelKey === '')
          runner.findExec(caller, execId).exec?.kill('disconnect', 'cancelled', 'CANCELLED');
        else cancelKeys.cancel(principalKey(caller.principal), cancelKey);
        return {};
      },
      report,
    ),

    resumeExec: serverStream('ResumeExec', () => unimplemented('ResumeExec'), report),

    readArtefact: serverStream(
      'ReadArtefact',
      async function* ({ execId, path }, context) {
        const { ending } = runner.findExec(await identify(context), execId);
        if (ending?.errorCode === 'EXEC_LOST') throw new OutriderError('EXEC_LOST', ending.detail);
        for await (const data of artefacts.open(execId, path)) yield { data };
      },
      report,
    ),

    watchEvents: serverStream(
      'WatchEvents',
      async function* ({ sandboxId }, context) {
        const owner = principalKey((await identify(context)).principal);
        const events = runner.events.watch(owner, sandboxId, context.signal);
        yield { time: new Date(), sandboxId, execId: '', labels: {}, event: undefined };
        for await (const event of events) yield eventMessage(event, runner.runnerId);
      },
      report,
    ),

    holdPlace: serverStream(
      'HoldPlace',
      async function* ({ role }, context) {
        const { signal } = context;
        const release = runner.holdPlace(await identify(context), role);
        try {
          if (signal.aborted) return;
          const left = new Promise((resolve) => {
            signal.addEventListener('abort', resolve, { once: true });
          });
          yield {};
          await left;
        } finally {
          release();
        }
      },
      report,
    ),
  };
}

async function* execStream(
  { runner, runs, calls, cancelKeys }: ExecServiceDeps,
  identify: IdentifyCaller,
  requests: AsyncIterable<ExecRequest>,
  context: CallContext,
): AsyncGenerator<ExecResponse> {
  const caller = await identify(context);
  const owner = principalKey(caller.principal);
  calls.enter(owner, context.signal);
  const incoming = requests[Symbol.asyncIterator]();
  const { value: first } = await incoming.next();
  const request: ExecRequest['request'] = first?.request;
  if (request?.$case !== 'start')
    throw new OutriderError('INVALID_REQUEST', 'the first request must be start');
  const spec = request.value;
  const signal = cancelKeys.enter(owner, spec.cancelKey, context.signal);
  const ask = execAsk(spec, { requestId: context.requestId, signal });
  const attached = await runs.begin(caller, ask, spec.idempotencyKey, asked('Exec', spec));
  const { facts, events } = attached;
  void control(attached, incoming).catch(() => {
    if (attached.first && spec.openStdin && spec.idempotencyKey !== '')
      attached.exec?.kill('disconnect', 'the caller that fed its stdin went away');
  });
  yield { response: { $case: 'started', value: startedMessage(facts, runner.runnerId) } };
  const responses = responsesOf(events, facts);
  yield* keptAlive(responses, KEEP_ALIVE_MS, () => ({
    response: { $case: 'keepAlive', value: {} },
  }));
}

/**
 * What the caller sends while the program runs. The end of its requests is the end of stdin. Of several calls that share an exec only
 * the first feeds it: the others send the same again.
 */
async function control(
  { exec, first }: Attached,
  requests: AsyncIterator<ExecRequest>,
): Promise<void> {
  if (!exec) return;
  for (;;) {
    const { value, done } = await requests.next();
    if (done === true) break;
    const request: ExecRequest['request'] = value?.request;
    if (request?.$case === 'stdin') {
      if (first) await exec.stdin(request.value);
    } else if (request?.$case === 'closeStdin') {
      if (first) exec.closeStdin();
    } else if (request?.$case === 'signal' && SIGNALS.has(request.value))
      exec.signal(request.value);
    else {
      const { code, message } = refusalOf(request);
      exec.kill('disconnect', message, code);
      return;
    }
  }
  if (first) exec.closeStdin();
}

/** Why a request cannot be taken while a program runs: what asked for something that does not happen must not take it for done. */
function refusalOf(request: ExecRequest['request']): OutriderError {
  if (request?.$case === 'resize')
    return new OutriderError('UNIMPLEMENTED', 'resize is not implemented in this version');
  if (request?.$case === 'signal')
    return new OutriderError(
      'INVALID_REQUEST',
      `signal ${request.value} is not one of ${[...SIGNALS].join(', ')}`,
    );
  return new OutriderError(
    'INVALID_REQUEST',
    `after start an exec takes stdin, close_stdin and signal, not ${request?.$case ?? 'nothing'}`,
  );
}

async function feed({ exec }: Attached, stdin: Buffer): Promise<void> {
  await exec?.stdin(stdin);
  exec?.closeStdin();
}

/** What an idempotency key stands for: the same bytes for the same request, whatever the order of its maps. */
function asked(method: 'Run' | 'Exec', spec: ExecSpec | undefined): Buffer {
  if (!spec?.idempotencyKey) return Buffer.alloc(0);
  const sorted = { ...spec, env: inOrder(spec.env), labels: inOrder(spec.labels) };
  return Buffer.concat([Buffer.from(`${method}\0`), ExecSpec.encode(sorted).finish()]);
}

function inOrder(map: Readonly<Record<string, string>>): Record<string, string> {
  return Object.fromEntries(Object.entries(map).toSorted(([a], [b]) => (a < b ? -1 : 1)));
}

/** The artefacts with as much content, in their order, as there is room for. */
function inlineWithin(room: number, artefacts: readonly Artefact[]): Artefact[] {
  let left = room;
  return artefacts.map((artefact) => {
    if (artefact.content.length > left) return { ...artefact, content: Buffer.alloc(0) };
    left -= artefact.content.length;
    return artefact;
  });
}

async function* responsesOf(
  events: AsyncIterable<ExecEvent>,
  facts: ExecFacts,
): AsyncGenerator<ExecResponse, void, undefined> {
  for await (const event of events) yield responseOf(event, facts);
}

function responseOf(event: ExecEvent, facts: ExecFacts): ExecResponse {
  if (event.kind === 'end')
    return { response: { $case: 'end', value: endMessage(event.ending, facts) } };
  const { offset, data } = event.chunk;
  return { response: { $case: event.stream, value: { data, offset: BigInt(offset) } } };
}
