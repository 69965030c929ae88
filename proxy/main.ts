import { formatAddress } from '#core/address';
import { Metrics } from '#core/metrics';
import { type Env, runPart } from '#core/run-part';
import { proxySpec } from './config.ts';
import { createProxy } from './server.ts';

/** `outrider proxy [--config FILE] [options]`: runs until a signal; resolves to the exit code. */
export function main(argv: readonly string[], env: Env): Promise<number> {
  return runPart(
    {
      name: 'proxy',
      spec: proxySpec,
      user: (config) => config.user,
      keepsRoot: true, // it reads secrets that root writes, also later
      start: async (config, log) => {
        const metrics = new Metrics('proxy');
        // A copy: each look at `process.env` asks the system.
        const proxy = createProxy(config, { log, metrics, env: { ...env } });
        const { listen } = await proxy.start();
        return { address: formatAddress(listen), stop: () => proxy.stop() };
      },
    },
    argv,
    env,
  );
}
