import { formatAddress } from '#core/address';
import { type Env, runPart } from '#core/run-part';
import { runnerSpec } from './config.ts';
import { startRunner } from './server.ts';

/**
 * `outrider runner [--config FILE] [options]`: runs until a signal; resolves to the exit code. `self` is argv of the `outrider` command, for
 * the sidecars that it starts.
 */
export function main(argv: readonly string[], env: Env, self: readonly string[]): Promise<number> {
  return runPart(
    {
      name: 'runner',
      spec: runnerSpec,
      start: async (config, log) => {
        const runner = await startRunner(config, { log, sidecarCommand: [...self, 'sidecar'] });
        return { address: formatAddress(runner.listen), stop: () => runner.stop() };
      },
    },
    argv,
    env,
  );
}
