import { randomBytes } from 'node:crypto';
import type { ConfigOf } from '#core/config';
import type { Logger } from '#core/log';
import type { Metrics } from '#core/metrics';
import { limitStoreMetric } from '../metrics.ts';
import type { Secrets } from '../secrets.ts';
import { createBudgetRedis } from './budget-redis.ts';
import type { limitsSpec } from './config.ts';
import type { LeaseStore } from './lease-store.ts';
import type { Limiter } from './limit.ts';
import { LocalLimits } from './local.ts';
import { createRedisStore } from './redis-store.ts';
import { SharedLimits } from './shared.ts';
import { SharedBudgets } from './shared-budgets.ts';

export { configuredLimits, limitsSpec } from './config.ts';
export type { Limiter } from './limit.ts';
export type { ConfiguredLimits } from './limits-of.ts';

type LimitsConfig = ConfigOf<ReturnType<typeof limitsSpec>>;

export interface LimiterDeps {
  readonly secrets: Secrets;
  readonly log: Logger;
  readonly metrics: Metrics;
  /** Of one of several workers: where they keep rates together, and how many they are. */
  readonly workers?: { readonly leases: LeaseStore; readonly count: number } | undefined;
}

/** Who counts: this process for itself, or with the other workers of its proxy, or with all proxies in the Redis of the configuration. */
export function createLimiter(
  config: LimitsConfig,
  { secrets, log, metrics, workers }: LimiterDeps,
): Limiter {
  const address = config['limits.redis'];
  const count = workers?.count ?? 1;
  if (!address)
    return workers
      ? new SharedLimits({ store: workers.leases, proxies: count, exact: true })
      : new LocalLimits();
  const isUp = limitStoreMetric(metrics);
  isUp.set(0);
  const store = createRedisStore(randomBytes(9).toString('base64url'), {
    address,
    password: passwordOf(config, secrets),
    onAvailable(available, error) {
      isUp.set(available ? 1 : 0);
      if (available) log.info('limits are shared through Redis');
      else log.warn('Redis is away: each proxy lets through its share', { error });
    },
  });
  return new SharedLimits({ store, proxies: config['limits.proxies'] * count });
}

/** Budgets that all proxies keep in the Redis of the configuration; undefined where there is none, and each counts for itself. */
export function createSharedBudgets(
  config: LimitsConfig,
  { secrets, log, workers }: Omit<LimiterDeps, 'metrics'>,
): SharedBudgets | undefined {
  const address = config['limits.redis'];
  if (!address) return undefined;
  const store = createBudgetRedis({
    address,
    password: passwordOf(config, secrets),
    onRefused(error) {
      if (error) log.warn('Redis refuses to count budgets', { error });
      else log.info('Redis counts budgets again');
    },
  });
  const proxies = config['limits.proxies'] * (workers?.count ?? 1);
  return new SharedBudgets({ store, member: randomBytes(9).toString('base64url'), proxies });
}

function passwordOf(config: LimitsConfig, secrets: Secrets): () => string | undefined {
  const ref = config['limits.redisPassword'];
  return () => (ref === undefined ? undefined : secrets.read(ref));
}
