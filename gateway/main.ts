import { formatAddress } from '#core/address';
import { Metrics } from '#core/metrics';
import { type Env, runPart } from '#core/run-part';
import { gatewaySpec } from './config.ts';
import { createGateway } from './server.ts';

/** `outrider gateway [--config FILE] [options]`: runs until a signal; resolves to the exit code. */
export function main(argv: readonly string[], env: Env): Promise<number> {
  return runPart(
    {
      name: 'gateway',
      spec: gatewaySpec,
      user: (config) => config.user,
      start: async (config, log) => {
        if (config.insecure)
          log.warn('authentication is off: every process of this machine may call');
        const gateway = createGateway(config, { log, metrics: new Metrics('gateway') });
        return { address: formatAddress(await gateway.start()), stop: () => gateway.stop() };
      },
    },
    argv,
    env,
  );
}
