import { formatAddress, isLoopback } from '#core/address';
import { Metrics } from '#core/metrics';
import { type Env, runPart } from '#core/run-part';
import { serverSpec } from './config.ts';
import { createMcpServer } from './server.ts';

/** `outrider server [--config FILE] [options]`: runs until a signal; resolves to the exit code. */
export function main(argv: readonly string[], env: Env): Promise<number> {
  return runPart(
    {
      name: 'server',
      spec: serverSpec,
      user: (config) => config.user,
      start: async (config, log) => {
        if (!config.runner.every(isLoopback))
          log.warn('a runner is on another host and the connection to it is not encrypted');
        const server = createMcpServer(config, { log, metrics: new Metrics('server') });
        return { address: formatAddress(await server.start()), stop: () => server.stop() };
      },
    },
    argv,
    env,
  );
}
