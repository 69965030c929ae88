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
import { collect, type ExecEvent } from './exec.ts';
import { endMessage, execAsk, startedMessage } from './messages.ts';
import { joinOutput } from './output.ts';
import type { Runner, Started } from './runner.ts';

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
        const ask = execAsk(spec, context);
        const started = await runner.exec(caller, ask);
        if (ask.openStdin) void feed(started, spec?.stdin ?? Buffer.alloc(0));
        const { stdout, stderr, ending } = await collect(started.events);
        return {
          started: startedMessage(started, runner.runnerId),
          stdout: joinOutput(stdout),
          stderr: joinOutput(stderr),
          results: [],
          end: endMessage(ending),
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
        const { started, ending } = runner.findExec(await identify(context), execId);
        return {
          started: startedMessage(started, runner.runnerId),
          end: ending && endMessage(ending),
          labels: {},
        };
      },
      report,
    ),

    cancelExec: unary(
      'CancelExec',
      async ({ execId }, context) => {
        const { started, ending } = runner.findExec(await identify(context), execId);
        if (!ending) started.exec.kill('disconnect', 'cancelled', 'CANCELLED');
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
  // From here the program runs: whatever becomes of the stream, its events are taken to the end.
  const events = started.events;
  void control(started, incoming).catch(() => {});
  let over = false;
  try {
    yield { response: { $case: 'started', value: startedMessage(started, runner.runnerId) } };
    for (;;) {
      const { value, done } = await events.next();
      over = done === true;
      if (!value) return;
      yield responseOf(value);
    }
  } finally {
    if (!over) for (let rest = await events.next(); !rest.done; rest = await events.next());
  }
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

function responseOf(event: ExecEvent): ExecResponse {
  if (event.kind === 'end') return { response: { $case: 'end', value: endMessage(event.ending) } };
  const { offset, data } = event.chunk;
  return { response: { $case: event.stream, value: { data, offset: BigInt(offset) } } };
}
