import { loadConfig } from '#core/config';
import { takeConfigFile } from '#core/config-file';
import { toOutriderError } from '#core/errors';
import { Lifecycle, untilSignal } from '#core/lifecycle';
import { createLogger } from '#core/log';
import { Metrics } from '#core/metrics';
import { runtimeDir, stateDir } from '#core/runtime-dir';
import { type SidecarConfig, sidecarSpec } from './config.ts';
import { createSidecar } from './server.ts';

type Env = Readonly<Record<string, string | undefined>>;

/**
 * `outrider sidecar [--config FILE] [options]`: runs until a signal, until the one attachment ends (`exitWithAttachment`), or until
 * stdin ends (`watchStdin`). Prints nothing on stdout. Resolves to the exit code.
 */
export async function main(argv: readonly string[], env: Env): Promise<number> {
  let log = createLogger('sidecar');
  try {
    const config = configuration(argv, env);
    log = createLogger('sidecar', config.logLevel);
    const lifecycle = new Lifecycle(log);
    const sidecar = createSidecar(config, { log, metrics: new Metrics('sidecar') });
    const early: Promise<unknown>[] = [];
    if (config.exitWithAttachment) early.push(sidecar.firstEnded);
    if (config.watchStdin) early.push(stdinEnded());
    lifecycle.add('sidecar', () => sidecar.stop());
    try {
      await sidecar.start();
    } catch (error) {
      await lifecycle.stop();
      throw error;
    }
    await untilSignal(() => lifecycle.stop(), early.length > 0 ? Promise.race(early) : undefined);
    if (config.watchStdin) process.stdin.destroy(); // open, it would keep this process after a signal
    return 0;
  } catch (thrown) {
    const error = toOutriderError(thrown);
    log.error('the sidecar cannot run', { error });
    process.stderr.write(`${error.message}\n`);
    return 1;
  }
}

function configuration(argv: readonly string[], env: Env): SidecarConfig {
  const uid = process.getuid?.() ?? 0;
  const spec = sidecarSpec({ runtime: runtimeDir(env, uid), state: stateDir(env, uid) });
  const { argv: options, file } = takeConfigFile(argv);
  return loadConfig('sidecar', spec, { argv: options, env, file });
}

/** The parent holds the other end: its death, however it dies, closes it. */
function stdinEnded(): Promise<void> {
  return new Promise((resolve) => {
    process.stdin
      .once('end', resolve)
      .once('close', resolve)
      .once('error', () => resolve());
    process.stdin.resume();
  });
}
