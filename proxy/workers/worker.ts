import { formatAddress } from '#core/address';
import { toOutriderError } from '#core/errors';
import { failingChecks, type ReadyCheck } from '#core/http';
import type { Logger } from '#core/log';
import { Metrics } from '#core/metrics';
import type { ProxyConfig } from '../config.ts';
import type { ClosableBudgets } from '../counts.ts';
import type { LeaseAsk } from '../limits/lease-store.ts';
import type { Limiter } from '../limits/limit.ts';
import { createProxy } from '../server.ts';
import { Channel } from './channel.ts';
import type { PrimaryDoor, WorkerDoor } from './doors.ts';
import { RemoteCounts } from './remote-counts.ts';
import { createRemoteSink } from './remote-sink.ts';

/** A worker that knows what it is to do. */
export interface Worker {
  readonly config: ProxyConfig;
  /** Serves. @throws {OutriderError} as `Proxy.start`, after the primary was told */
  start(
    log: Logger,
    env: Readonly<Record<string, string | undefined>>,
  ): Promise<() => Promise<void>>;
}

interface Readiness {
  readonly checks: readonly ReadyCheck[];
  readonly info: () => Readonly<Record<string, unknown>>;
}

/** Asks the primary, over the channel that `node:cluster` has made, what this worker is. Only `main.ts` calls this. */
export async function takeSeat(): Promise<Worker> {
  const metrics = new Metrics('proxy');
  let readiness: Readiness | undefined;
  const primary = new Channel<WorkerDoor, PrimaryDoor>(
    {
      send: (messages) => void process.send?.([...messages], undefined, undefined, () => {}),
      onMessages: (take) => void process.on('message', take),
    },
    {
      usedUp: (ids) => counts?.markUsedUp(ids),
      metrics: () => metrics.snapshot(),
      async status() {
        if (!readiness) return { problems: { workers: 'one is starting' }, info: {} };
        return { problems: await failingChecks(readiness.checks), info: readiness.info() };
      },
    },
  );
  let counts: RemoteCounts | undefined;
  const leases = {
    available: true,
    ask: (asks: readonly LeaseAsk[]) => primary.ask('lease', asks),
    close() {},
  };
  const sink = createRemoteSink({
    deliver: (delivery) => primary.ask('deliver', delivery),
    flush: () => primary.tell('flush', null),
  });
  const remembered = (kind: 'token' | 'proof') => ({
    use: (key: string) => primary.ask('useOnce', { kind, key }),
  });
  const { config, number, again, exchangeKey, proxyId } = await primary.ask('begin', null);
  return {
    config,
    async start(log, env) {
      const seat = {
        number,
        again,
        exchangeKey,
        proxyId,
        usedTokens: remembered('token'),
        usedProofs: remembered('proof'),
        sink,
        leases,
        counts: (limiter: Limiter, budgets: ClosableBudgets | undefined) =>
          (counts = new RemoteCounts(
            {
              count: (countable) => primary.ask('count', countable),
              counting: (news) => primary.tell('counting', news),
            },
            limiter,
            budgets,
          )),
        readiness(checks: Readiness['checks'], info: Readiness['info']) {
          readiness = { checks, info };
        },
      };
      const proxy = createProxy(config, { log, metrics, env, seat });
      try {
        const { listen } = await proxy.start();
        primary.tell('started', formatAddress(listen));
      } catch (thrown) {
        const { code, message } = toOutriderError(thrown);
        primary.tell('failed', { code, message });
        throw thrown;
      }
      return () => proxy.stop();
    },
  };
}
