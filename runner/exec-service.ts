import { OutriderError } from '#core/errors';
import {
  bidiStream,
  type CallContext,
  type Report,
  serverStream,
  unary,
  unimplemented,
} from '#core/grpc';
import type { ExecRequest, ExecResponse, ExecServiceServer, RunResponse } from '#proto';
import type { IdentifyCaller } from './callers.ts';
import { type Artefact, collect, type ExecEvent } from './exec.ts';
import { endMessage, execAsk, startedMessage } from './messages.ts';
import { joinOutput } from './output.ts';
import type { Runner, Started } from './runner.ts';

/** What one answer of Run holds: of each stream, and of streams and artefacts together. More goes by Exec. */
const RUN_OUTPUT_MAX_BYTES = 2 ** 20;
const RUN_ANSWER_MAX_BYTES = 3 * 2 ** 20;
const SIGNALS = new Set([1, 2, 3, 9, 10, 12, 15, 18, 19, 28]);

/** ExecService over a `Runner`: what is sent becomes ours, what is ours is sent. */
export function execService(
  runner: Runner,
  identify: IdentifyCaller,
  report: Report,
): ExecServiceServer {
  return {
    run: unary(
      'Run',
      async ({ spec }, context): Promise<RunResponse> => {
        const caller = await identify(context);
        const ask = { ...execAsk(spec, context), outputMaxBytes: RUN_OUTPUT_MAX_BYTES };
        const started = await runner.exec(caller, ask);
        if (ask.openStdin) void feed(started, spec?.stdin ?? Buffer.alloc(0));
        const { stdout, stderr, ending } = await collect(started.events);
        const [out, err] = [joinOutput(stdout), joinOutput(stderr)];
        const room = RUN_ANSWER_MAX_BYTES - out.length - err.length;
        return {
          started: startedMessage(started.facts, runner.runnerId),
          stdout: out,
          stderr: err,
          results: [],
          end: endMessage({ ...ending, artefacts: inlineWithin(room, ending.artefacts) }),
        };
      },
      report,
    ),

    exec: bidiStream(
      'Exec',
      (requests, context) => execStream(runner, identify, requests, context),
      report,
    ),

    getExec: unary(
      'GetExec',
      async ({ execId }, context) => {
        const { facts, ending } = runner.findExec(await identify(context), execId);
        return {
          started: startedMessage(facts, runner.runnerId),
          end: ending && endMessage(ending),
          labels: {},
        };
      },
      report,
    ),

    cancelExec: unary(
      'CancelExec',
      async ({ execId }, context) => {
        const { exec } = runner.findExec(await identify(context), execId);
        exec?.kill('disconnect', 'cancelled', 'CANCELLED');
        return {};
      },
      report,
    ),

    resumeExec: serverStream('ResumeExec', () => unimplemented('ResumeExec'), report),
    readArtefact: serverStream('ReadArtefact', () => unimplemented('ReadArtefact'), report),
    watchEvents: serverStream('WatchEvents', () => unimplemented('WatchEvents'), report),
  };
}

async function* execStream(
  runner: Runner,
  identify: IdentifyCaller,
  requests: AsyncIterable<ExecRequest>,
  context: CallContext,
): AsyncGenerator<ExecResponse> {
  const caller = await identify(context);
  const incoming = requests[Symbol.asyncIterator]();
  const { value: first } = await incoming.next();
  const request: ExecRequest['request'] = first?.request;
  if (request?.$case !== 'start')
    throw new OutriderError('INVALID_REQUEST', 'the first request must be start');
  const started = await runner.exec(caller, execAsk(request.value, context));
  void control(started, incoming).catch(() => {});
  yield { response: { $case: 'started', value: startedMessage(started.facts, runner.runnerId) } };
  for await (const event of started.events) yield responseOf(event);
}

/** What the caller sends while the program runs. The end of its requests is the end of stdin. */
async function control(started: Started, requests: AsyncIterator<ExecRequest>): Promise<void> {
  const { exec } = started;
  for (;;) {
    const { value, done } = await requests.next();
    if (done === true) break;
    const request: ExecRequest['request'] = value?.request;
    if (request?.$case === 'stdin') await exec.stdin(request.value);
    else if (request?.$case === 'closeStdin') exec.closeStdin();
    else if (request?.$case === 'signal' && SIGNALS.has(request.value)) exec.signal(request.value);
    else exec.kill('disconnect', 'a request that an exec does not take', 'INVALID_REQUEST');
  }
  exec.closeStdin();
}

async function feed({ exec }: Started, stdin: Buffer): Promise<void> {
  await exec.stdin(stdin);
  exec.closeStdin();
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

function responseOf(event: ExecEvent): ExecResponse {
  if (event.kind === 'end') return { response: { $case: 'end', value: endMessage(event.ending) } };
  const { offset, data } = event.chunk;
  return { response: { $case: event.stream, value: { data, offset: BigInt(offset) } } };
}
