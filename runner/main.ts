import { loadConfig } from '#core/config';
import { takeConfigFile } from '#core/config-file';
import { OutriderError, toOutriderError } from '#core/errors';
import { untilSignal } from '#core/lifecycle';
import { createLogger } from '#core/log';
import { runtimeDir, stateDir } from '#core/runtime-dir';
import { runnerSpec } from './config.ts';
import { startRunner } from './server.ts';

type Env = Readonly<Record<string, string | undefined>>;

/** `outrider runner`: runs until a signal; the exit code. `self` is argv of the `outrider` command, for the sidecars it starts. */
export async function main(
  argv: readonly string[],
  env: Env,
  self: readonly string[],
): Promise<number> {
  let log = createLogger('runner');
  try {
    const uid = process.getuid?.() ?? 0;
    const paths = { runtime: runtimeDir(env, uid), state: stateDir(env, uid) };
    const { argv: options, file } = takeConfigFile(argv);
    const config = loadConfig('runner', runnerSpec(paths), { argv: options, env, file });
    log = createLogger('runner', config.logLevel);
    const runner = await startRunner(config, { log, sidecarCommand: [...self, 'sidecar'] });
    await untilSignal(() => runner.stop());
    return 0;
  } catch (thrown) {
    const error = toOutriderError(thrown);
    log.error('the runner could not start', { error });
    process.stderr.write(
      `outrider runner: ${error instanceof OutriderError ? error.message : 'internal error'}\n`,
    );
    return 1;
  }
}
