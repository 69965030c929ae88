import { formatAddress } from '#core/address';
import { loadConfig } from '#core/config';
import { takeConfigFile } from '#core/config-file';
import { toOutriderError } from '#core/errors';
import { Lifecycle, untilSignal } from '#core/lifecycle';
import { createLogger } from '#core/log';
import { Metrics } from '#core/metrics';
import { runtimeDir, stateDir } from '#core/runtime-dir';
import { gatewaySpec } from './config.ts';
import { createGateway } from './server.ts';

type Env = Readonly<Record<string, string | undefined>>;

/** Runs the gateway until a signal; resolves to the exit code. Writes nothing on stdout. */
export async function main(argv: readonly string[], env: Env): Promise<number> {
  let log = createLogger('gateway');
  try {
    const uid = process.getuid?.() ?? 0;
    const paths = { runtime: runtimeDir(env, uid), state: stateDir(env, uid) };
    const { argv: options, file } = takeConfigFile(argv);
    const config = loadConfig('gateway', gatewaySpec(paths), { argv: options, env, file });
    log = createLogger('gateway', config.logLevel);
    if (config.insecure) log.warn('authentication is off: every process of this machine may call');

    const lifecycle = new Lifecycle(log, config.drainTimeout + 5_000);
    const gateway = createGateway(config, { log, metrics: new Metrics('gateway') });
    const address = await gateway.start();
    lifecycle.add('gateway', () => gateway.stop());
    log.info('ready', { address: formatAddress(address) });
    await untilSignal(() => lifecycle.stop());
    return 0;
  } catch (thrown) {
    const error = toOutriderError(thrown);
    log.error('the gateway cannot run', { error });
    process.stderr.write(`${error.message}\n`);
    return 1;
  }
}
