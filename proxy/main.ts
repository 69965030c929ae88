import cluster from 'node:cluster';
import { formatAddress } from '#core/address';
import type { Logger } from '#core/log';
import { Metrics } from '#core/metrics';
import { type Env, type RunningPart, runPart } from '#core/run-part';
import { type ProxyConfig, proxySpec } from './config.ts';
import { createProxy } from './server.ts';

const PART = {
  name: 'proxy',
  spec: proxySpec,
  user: (config: ProxyConfig) => config.user,
  keepsRoot: true, // it reads secrets that root writes, also later
};

/**
 * `outrider proxy [--config FILE] [options]`: runs until a signal; resolves to the exit code. With `workers` > 1 it starts this very
 * command again for each of them.
 */
export async function main(argv: readonly string[], env: Env): Promise<number> {
  if (cluster.isWorker) return work(env);
  return runPart({ ...PART, start: (config, log) => start(config, log, { ...env }) }, argv, env);
}

/** `env` is a copy: each look at `process.env` asks the system. */
async function start(config: ProxyConfig, log: Logger, env: Env): Promise<RunningPart> {
  const deps = { log, metrics: new Metrics('proxy'), env };
  if (config.workers > 1) {
    const { startPrimary } = await import('./workers/primary.ts');
    return startPrimary(config, deps);
  }
  const proxy = createProxy(config, deps);
  const { listen } = await proxy.start();
  return { address: formatAddress(listen), stop: () => proxy.stop() };
}

/** One of the workers; its primary says when it is ready. */
async function work(env: Env): Promise<number> {
  const { takeSeat } = await import('./workers/worker.ts');
  const worker = await takeSeat();
  const code = await runPart(
    {
      ...PART,
      config: worker.config,
      start: async (_config, log) => ({ stop: await worker.start(log, { ...env }) }),
    },
    [],
    env,
  );
  process.channel?.unref(); // nothing else keeps it
  return code;
}
