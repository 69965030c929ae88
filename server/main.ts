import { formatAddress, isLoopback } from '#core/address';
import { loadConfig } from '#core/config';
import { takeConfigFile } from '#core/config-file';
import { toOutriderError } from '#core/errors';
import { Lifecycle, untilSignal } from '#core/lifecycle';
import { createLogger } from '#core/log';
import { Metrics } from '#core/metrics';
import { runtimeDir, stateDir } from '#core/runtime-dir';
import { serverSpec } from './config.ts';
import { createMcpServer } from './server.ts';

type Env = Readonly<Record<string, string | undefined>>;

/** Runs the MCP server until a signal; resolves to the exit code. Writes nothing on stdout. */
export async function main(argv: readonly string[], env: Env): Promise<number> {
  let log = createLogger('server');
  try {
    const uid = process.getuid?.() ?? 0;
    const paths = { runtime: runtimeDir(env, uid), state: stateDir(env, uid) };
    const { argv: options, file } = takeConfigFile(argv);
    const config = loadConfig('server', serverSpec(paths), { argv: options, env, file });
    log = createLogger('server', config.logLevel);
    if (!isLoopback(config.runner))
      log.warn('the runner is on another host and the connection to it is not encrypted');

    const lifecycle = new Lifecycle(log, config.drainTimeout + 5_000);
    const server = createMcpServer(config, { log, metrics: new Metrics('server') });
    const address = await server.start();
    lifecycle.add('mcp server', () => server.stop());
    log.info('ready', { address: formatAddress(address) });
    await untilSignal(() => lifecycle.stop());
    return 0;
  } catch (thrown) {
    const error = toOutriderError(thrown);
    log.error('the server cannot run', { error });
    process.stderr.write(`${error.message}\n`);
    return 1;
  }
}
