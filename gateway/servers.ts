import { toOutriderError } from '#core/errors';
import type { Logger } from '#core/log';
import type { Metrics } from '#core/metrics';
import type { GatewayConfig } from './config.ts';
import { type Balancer, createBalancer } from './relay/balancer.ts';
import { configuredPlaces, placesNow, type ServersConfig } from './relay/discovery.ts';
import { isReady, isSound, startHealthChecks } from './relay/health.ts';

/** The servers behind the gateway, kept in view. */
export interface Servers {
  readonly balancer: Balancer;
  /** Finds them and begins to check them. @throws {OutriderError} CONFIG_INVALID for a name without an address */
  start(): Promise<void>;
  /** Other servers, from now on. Calls that are under way end where they are. */
  reload(config: ServersConfig): Promise<void>;
  /** Undefined when at least one can serve, otherwise what a person should know. */
  problem(): Promise<string | undefined>;
  close(): Promise<void>;
}

const LOOKUP_EVERY_MS = 5_000;
const READY_WITHIN_MS = 1_500;

export function createServers(
  config: ServersConfig & Pick<GatewayConfig, 'healthInterval' | 'serversAre'>,
  deps: {
    readonly log: Logger;
    readonly metrics: Metrics;
    /** The gateway's word for itself, for servers that are ours. */
    readonly assertion: () => Promise<string | undefined>;
  },
): Servers {
  const { log, metrics, assertion } = deps;
  let wanted: ServersConfig = config;
  const balancer = createBalancer(
    wanted.serversFrom === 'list' ? configuredPlaces(wanted) : [],
    metrics,
  );
  let timer: NodeJS.Timeout | undefined;
  let endChecks = () => {};

  const lookAgain = (): void => {
    const asked = wanted;
    placesNow(asked).then(
      (places) => asked === wanted && balancer.update(places),
      (error: unknown) =>
        log.warn('the servers cannot be looked up; those known stay', {
          error: toOutriderError(error),
        }),
    );
  };
  return {
    balancer,
    async start() {
      balancer.update(await placesNow(wanted));
      timer = setInterval(lookAgain, LOOKUP_EVERY_MS).unref();
      endChecks = startHealthChecks(balancer, {
        intervalMs: config.healthInterval,
        authorization: assertion,
        log,
      });
    },
    async reload(next) {
      const places = await placesNow(next);
      wanted = next;
      balancer.update(places);
    },
    async problem() {
      const { upstreams } = balancer;
      // Ours say more than that they answer: whether they can run anything.
      const ask = config.serversAre === 'ours' ? isReady : isSound;
      const ready = await Promise.all(upstreams.map((upstream) => ask(upstream, READY_WITHIN_MS)));
      return ready.includes(true)
        ? undefined
        : `none of ${upstreams.length} servers is ready: their own /readyz says why`;
    },
    async close() {
      clearInterval(timer);
      endChecks();
      await balancer.close();
    },
  };
}
