import { formatAddress } from '#core/address';
import { type Env, runPart } from '#core/run-part';
import { runnerSpec } from './config.ts';
import { startRunner } from './server.ts';

/**
 * `outrider runner [--config FILE] [options]`: runs until a signal; resolves to the exit code. `self` is argv of the `outrider` command, for
 * the sidecars and the launcher that it starts. The launcher reads the same options and environment.
 */
export function main(argv: readonly string[], env: Env, self: readonly string[]): Promise<number> {
  return runPart(
    {
      name: 'runner',
      spec: runnerSpec,
      user: (config) => config.user,
      start: async (config, log, giveUpRoot) => {
        const runner = await startRunner(config, {
          log,
          sidecarCommand: [...self, 'sidecar'],
          launcherCommand: [...self, 'launcher', ...argv],
          env,
          giveUpRoot,
        });
        return {
          address: formatAddress(runner.listen),
          over: runner.over,
          stop: () => runner.stop(),
        };
      },
    },
    argv,
    env,
  );
}
