import { formatAddress } from '#core/address';
import { collectGarbage } from '#core/collect-garbage';
import { removeStaleSockets } from '#core/http';
import type { Metrics } from '#core/metrics';
import { type Env, runPart } from '#core/run-part';
import { adminAddress, type SidecarConfig, sidecarSpec } from './config.ts';
import { createSidecar } from './server.ts';

/** After the start, when a sidecar that waits for its sandbox has nothing to do. */
const SETTLED_MS = 300;

/**
 * `outrider sidecar [--config FILE] [options]`: runs until a signal, until the one attachment ends (`exitWithAttachment`), or until stdin
 * ends (`watchStdin`); resolves to the exit code.
 */
export function main(argv: readonly string[], env: Env): Promise<number> {
  return runPart(
    {
      name: 'sidecar',
      spec: sidecarSpec,
      user: (config) => config.user,
      start: async (config, log, giveUpRoot) => {
        await removeStaleSockets([config.listen, adminAddress(config)]); // they may be root's
        giveUpRoot();
        const sidecar = createSidecar(config, { log, metrics: await metricsOf(config) });
        const over: Promise<unknown>[] = [];
        if (config.exitWithAttachment) over.push(sidecar.firstEnded);
        if (config.watchStdin) over.push(stdinEnded());
        const stop = async (): Promise<void> => {
          await sidecar.stop();
          if (config.watchStdin) process.stdin.destroy(); // open, it would keep this process after a signal
        };
        try {
          await sidecar.start();
        } catch (error) {
          await stop();
          throw error;
        }
        const { listen } = config;
        if (config.exitWithAttachment) setTimeout(collectGarbage, SETTLED_MS).unref();
        return {
          address: config.exitWithAttachment ? undefined : formatAddress(listen),
          stop,
          over: over.length > 0 ? Promise.race(over) : undefined,
        };
      },
    },
    argv,
    env,
  );
}

/** The process of one sandbox answers nobody who could ask, and is lighter without them. */
async function metricsOf(config: SidecarConfig): Promise<Metrics | undefined> {
  if (!adminAddress(config)) return undefined;
  const { Metrics } = await import('#core/metrics');
  return new Metrics('sidecar');
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
