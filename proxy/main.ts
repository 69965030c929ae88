import { loadConfig } from '#core/config';
import { takeConfigFile } from '#core/config-file';
import { toOutriderError } from '#core/errors';
import { untilSignal } from '#core/lifecycle';
import { createLogger } from '#core/log';
import { Metrics } from '#core/metrics';
import { runtimeDir, stateDir } from '#core/runtime-dir';
import { type ProxyConfig, proxySpec } from './config.ts';
import { createProxy } from './server.ts';

type Env = Readonly<Record<string, string | undefined>>;

/** `outrider proxy [--config FILE] [--key value]...`: runs until SIGINT or SIGTERM. 0 after an orderly end, 1 where it cannot start. */
export async function main(argv: readonly string[], env: Env): Promise<number> {
  let log = createLogger('proxy');
  try {
    const config = configFrom(argv, env);
    log = createLogger('proxy', config.logLevel);
    const proxy = createProxy(config, { log, metrics: new Metrics('proxy'), env });
    // Before the start: a signal that comes while it runs must end what there is by then in order, too.
    const ended = untilSignal(() => proxy.stop());
    await proxy.start();
    await ended;
    return 0;
  } catch (thrown) {
    const error = toOutriderError(thrown);
    log.error('the proxy cannot start', { error });
    process.stderr.write(`outrider proxy: ${error.message}\n`);
    return 1;
  }
}

function configFrom(argv: readonly string[], env: Env): ProxyConfig {
  const uid = process.getuid?.() ?? 0;
  const spec = proxySpec({ runtime: runtimeDir(env, uid), state: stateDir(env, uid) });
  return loadConfig('proxy', spec, { ...takeConfigFile(argv), env });
}
