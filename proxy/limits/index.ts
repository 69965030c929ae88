import { randomBytes } from 'node:crypto';
import type { ConfigOf } from '#core/config';
import type { Logger } from '#core/log';
import type { ProxyMetrics } from '../metrics.ts';
import type { Secrets } from '../secrets.ts';
import type { limitsSpec } from './config.ts';
import type { Limiter } from './limit.ts';
import { LocalLimits } from './local.ts';
import { createRedisStore } from './redis-store.ts';
import { SharedLimits } from './shared.ts';

export { configuredLimits, limitsSpec } from './config.ts';
export type { Limiter } from './limit.ts';
export type { ConfiguredLimits } from './limits-of.ts';

/** Who counts: this proxy for itself, or with others in the Redis of the configuration. */
export function createLimiter(
  config: ConfigOf<ReturnType<typeof limitsSpec>>,
  deps: { readonly secrets: Secrets; readonly log: Logger; readonly metrics: ProxyMetrics },
): Limiter {
  const address = config['limits.redis'];
  if (!address) return new LocalLimits();
  const passwordRef = config['limits.redisPassword'];
  deps.metrics.limitStore.set(0);
  const store = createRedisStore(randomBytes(9).toString('base64url'), {
    address,
    password: () => (passwordRef === undefined ? undefined : deps.secrets.read(passwordRef)),
    onAvailable(available, error) {
      deps.metrics.limitStore.set(available ? 1 : 0);
      if (available) deps.log.info('limits are shared through Redis');
      else deps.log.warn('Redis is away: each proxy lets through its share', { error });
    },
  });
  return new SharedLimits({ store, proxies: config['limits.proxies'] });
}
