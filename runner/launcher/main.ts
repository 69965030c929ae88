import { OutriderError, toOutriderError } from '#core/errors';
import { Lifecycle } from '#core/lifecycle';
import type { Logger } from '#core/log';
import { type Env, type RunningPart, runPart } from '#core/run-part';
import { policyFilesAt } from '#policystore';
import { type RunnerConfig, runnerSpec } from '../config.ts';
import { createIdentities } from '../identities.ts';
import { runnerUid } from './directories.ts';
import { Launcher } from './launcher.ts';
import { PolicyPages } from './policy-pages.ts';
import { prepareBackends } from './prepare.ts';
import { type Answer, problemOf } from './protocol.ts';
import { answering, serve } from './serve.ts';

/** Every box is ended at once; an engine may take its time to say so. */
const STEP_TIMEOUT_MS = 15_000;

/**
 * `outrider launcher [--config FILE] [runner's options]`: makes boxes for the runner that started it, which asks on stdin and is answered on
 * stdout. It reads the runner's section of the configuration itself, so that its bounds do not come from the runner. When its stdin
 * ends, the runner is gone: everything that it made is ended and removed. Resolves to the exit code.
 */
export function main(argv: readonly string[], env: Env): Promise<number> {
  const send = answering(process.stdout);
  return runPart(
    {
      name: 'launcher',
      section: 'runner',
      spec: runnerSpec,
      start: (config, log) => start(config, log, send),
    },
    argv,
    env,
  );
}

async function start(
  config: RunnerConfig,
  log: Logger,
  send: (answer: Answer) => void,
): Promise<RunningPart> {
  const lifecycle = new Lifecycle(log, STEP_TIMEOUT_MS);
  lifecycle.add('stdin', () => void process.stdin.destroy()); // after a signal it would keep this process
  try {
    const launcher = new Launcher({
      backends: await prepareBackends(config, lifecycle),
      identities: createIdentities(config.firstUid, config.uidCount),
      directory: config.sandboxDirectory,
      ceilings: {
        memoryBytes: config.maxMemory,
        cpuMillis: config.maxCpus * 1000,
        pids: config.maxPids,
        diskBytes: config.maxDisk,
      },
      runnerUid: runnerUid(config),
      onEnded: (sandboxId, end) => send({ event: 'ended', sandboxId, ...end }),
    });
    lifecycle.add('boxes', () => launcher.close());
    send({ event: 'ready', backends: launcher.backends });
    const policies = new PolicyPages(policyFilesAt(config.policies));
    const over = serve(process.stdin, { launcher, policies }, send);
    return { over, stop: () => lifecycle.stop() };
  } catch (thrown) {
    const error = toOutriderError(thrown);
    send({ event: 'failed', error: problemOf(error) });
    await lifecycle.stop();
    throw error instanceof OutriderError ? error : thrown;
  }
}
