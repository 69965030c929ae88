import { setTimeout as sleep } from 'node:timers/promises';
import type { ExecEnd, ExecStarted } from '#proto';
import { failureOf, killedBy, type ProgramAsk, specOf } from '../support/runner-client.ts';
import type { RunnerMesh } from '../support/runner-mesh.ts';
import { startAbruptly } from './abrupt-client.ts';
import type { Outages } from './outages.ts';
import { type Kill, PROGRAMS } from './plan.ts';
import { killAgent, killOwnSidecar } from './victims.ts';

/** What a kill came to. */
export interface Outcome {
  readonly kill: Kill;
  /** How the client saw it end: `timeout`, `GRPC_1`, ... */
  readonly seen: string;
  /** What should not have been; undefined where all is well. */
  readonly problem: string | undefined;
}

export interface Scene {
  readonly mesh: RunnerMesh;
  readonly backend: string;
  readonly outages: Outages;
}

/** Nothing may take longer, whatever is killed: restarts of parts included, which have 30 s of their own to fail in words. */
const HUNG_MS = 45_000;

/** Starts the kill's program, does to it what the plan says, and judges how it ended. Never rejects. */
export async function attempt(scene: Scene, kill: Kill): Promise<Outcome> {
  const disturbed = scene.outages.since();
  const { promise: late, cancel } = hung();
  try {
    const { seen, problem } = await Promise.race([
      kill.kind === 'gone' ? vanish(scene, kill, disturbed) : watch(scene, kill, disturbed),
      late,
    ]);
    return { kill, seen, problem };
  } catch (error) {
    return { kill, seen: 'error', problem: String(error) };
  } finally {
    cancel();
  }
}

type Judged = Omit<Outcome, 'kill'>;

/** A client that dies; how its exec ended is asked for on another connection. */
async function vanish(
  { mesh, backend }: Scene,
  kill: Kill,
  disturbed: () => boolean,
): Promise<Judged> {
  const exec = await startAbruptly(mesh.socket, specOf(askOf(kill, backend)));
  if (kill.since === 'started') await exec.started;
  await sleep(kill.afterMs);
  exec.vanish();
  const id = await exec.started;
  if (id === undefined) return { seen: 'before it started', problem: undefined };
  const { ends } = PROGRAMS[kill.program];
  return remembered(mesh, id, [...EXPECTED.gone, ...ends], disturbed);
}

/** A client that sees the end. */
async function watch(scene: Scene, kill: Kill, disturbed: () => boolean): Promise<Judged> {
  const { mesh, backend } = scene;
  const stream = mesh.client.exec(askOf(kill, backend));
  let begin: (started: ExecStarted | undefined) => void = () => {};
  const started = new Promise<ExecStarted | undefined>((resolve) => {
    begin = resolve;
  });
  const ended = (async (): Promise<{ end?: ExecEnd; failure?: string }> => {
    try {
      for await (const response of stream.responses) {
        if (response.$case === 'started') begin(response.value);
        if (response.$case === 'end') return { end: response.value };
      }
      return { failure: 'no end' };
    } catch (error) {
      return { failure: failureOf(error) };
    } finally {
      begin(undefined);
    }
  })();
  /** A sidecar of its own takes one exec with it, and must not be missed by any other. */
  const hitsOne = kill.kind === 'sidecar' && mesh.sharing === 'none' && kill.since === 'started';
  const act = async (): Promise<void> => {
    if (kill.since === 'started') await started;
    await sleep(kill.afterMs);
    if (kill.kind === 'cancel') stream.call.cancel();
    if (kill.kind === 'cancelExec' || kill.kind === 'agent' || hitsOne) {
      const known = await started;
      if (!known) return;
      if (kill.kind === 'cancelExec') await mesh.client.cancelExec(known.execId);
      else if (kill.kind === 'agent') killAgent(mesh, known, backend);
      else killOwnSidecar(mesh, known);
    } else if (kill.kind === 'runner' || kill.kind === 'launcher' || kill.kind === 'sidecar') {
      await scene.outages.kill(kill.kind);
      await Promise.race([ended, sleep(MISSED_MS, undefined, { ref: false })]);
      stream.call.cancel(); // what began only when the part was back goes on
    }
  };
  const acting = act();
  acting.catch(() => {}); // awaited below
  const { end, failure } = await ended;
  try {
    await acting;
  } catch (error) {
    if (!(kill.kind === 'cancelExec' && disturbed())) throw error;
  }
  const seen = end ? killedBy(end) : (failure ?? '');
  const usual = [
    ...(kill.kind === 'sidecar' && kill.since === 'started' ? ['runner'] : EXPECTED[kill.kind]),
    ...PROGRAMS[kill.program].ends,
  ];
  if (!usual.includes(seen) && !(disturbed() && DISTURBED.test(seen)))
    return { seen, problem: `ended as ${seen}${end ? `: ${end.errorCode} ${end.detail}` : ''}` };
  return { seen, problem: await forgotten(mesh, kill, await started, end, disturbed) };
}

/** What each kind may come to beside the program's own end. */
const EXPECTED: Readonly<Record<Kill['kind'], readonly string[]>> = {
  gone: ['disconnect'],
  cancel: ['GRPC_1'],
  cancelExec: ['disconnect'],
  deadline: ['GRPC_4', 'DEADLINE_EXCEEDED', 'timeout'],
  timeout: ['timeout'],
  agent: ['runner'],
  runner: ['GRPC_14'],
  launcher: ['GRPC_14', 'runner'],
  sidecar: ['runner', 'GRPC_1'],
};
/** An exec that a kill has hit is told of it within this. */
const MISSED_MS = 3_000;

/** What anything may come to while a part is down: always a word of ours, or that nobody is there. */
const DISTURBED =
  /^(runner|GRPC_14|SIDECAR_LOST|SANDBOX_FAILED|BACKEND_UNAVAILABLE|DRAINING|EXEC_LOST|RUNNER_UNAVAILABLE)$/;

/** A deadline counts from the call. */
const USUAL_START_MS = 200;

function askOf({ program, kind, afterMs, since }: Kill, backend: string): ProgramAsk {
  const deadlineMs = Math.ceil(afterMs) + (since === 'started' ? USUAL_START_MS : 0);
  return {
    code: PROGRAMS[program].code,
    backend,
    openStdin: program === 'stdin',
    ...(kind === 'deadline' ? { deadlineMs } : {}),
    ...(kind === 'timeout' ? { timeoutMs: Math.ceil(afterMs) } : {}),
  };
}

/** A runner that was killed must know, in its next life, that it lost the exec; otherwise it remembers the end as it told it. */
async function forgotten(
  mesh: RunnerMesh,
  kill: Kill,
  started: ExecStarted | undefined,
  end: ExecEnd | undefined,
  disturbed: () => boolean,
): Promise<string | undefined> {
  const endless = PROGRAMS[kill.program].ends.length === 0;
  if (!started || end || !endless) return undefined;
  if (kill.kind === 'runner')
    return (await remembered(mesh, started.execId, ['EXEC_LOST'], () => false)).problem;
  if (kill.kind === 'cancel' || kill.kind === 'deadline')
    return (await remembered(mesh, started.execId, ['disconnect', 'timeout'], disturbed)).problem;
  return undefined;
}

/** Once the runner answers; it may be down for one more kill. */
const END_KNOWN_MS = 5_000;
const ANSWERS_WITHIN_MS = 30_000;

/** Asks for an exec until its end is known, which must be one of these. */
async function remembered(
  mesh: RunnerMesh,
  execId: string,
  allowed: readonly string[],
  disturbed: () => boolean,
): Promise<Judged> {
  let deadline = Date.now() + END_KNOWN_MS;
  const late = Date.now() + ANSWERS_WITHIN_MS;
  for (;;) {
    const seen = await mesh.client
      .getExec(execId)
      .then(
        ({ end }) =>
          end ? (end.errorCode === 'EXEC_LOST' ? 'EXEC_LOST' : killedBy(end)) : 'running',
        failureOf,
      );
    if (allowed.includes(seen)) return { seen, problem: undefined };
    // An exec of a life that is over: lost, or ended and with its runner forgotten.
    if (disturbed() && ['runner', 'EXEC_LOST', 'EXEC_NOT_FOUND'].includes(seen))
      return { seen, problem: undefined };
    const down = seen === 'GRPC_14' && Date.now() < late;
    if (down) deadline = Date.now() + END_KNOWN_MS;
    if (!(down || seen === 'running') || Date.now() > deadline)
      return { seen, problem: `remembered as ${seen}, not ${allowed.join(' or ')}` };
    await sleep(20);
  }
}

function hung(): { promise: Promise<never>; cancel: () => void } {
  let timer: NodeJS.Timeout | undefined;
  const promise = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`hung for ${HUNG_MS} ms`)), HUNG_MS);
  });
  return { promise, cancel: () => clearTimeout(timer) };
}
