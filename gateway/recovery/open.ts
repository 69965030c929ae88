import { OutriderError } from '#core/errors';
import type { Logger } from '#core/log';
import type { Metrics } from '#core/metrics';
import type { GatewayConfig } from '../config.ts';
import type { Balancer } from '../relay/balancer.ts';
import { EndedSessions } from '../sessions/ended-sessions.ts';
import type { KeyRing } from '../sessions/key-ring.ts';
import { createMovedSessions } from './moved-sessions.ts';
import { sharedDirectory } from './moves/directory.ts';
import { sharedRedis } from './moves/redis.ts';
import { redisAddress, redisPlace } from './moves/redis-place.ts';
import type { SharedStore } from './moves/store.ts';
import { createNews, type News } from './news.ts';
import { createRecovery, type Recovery } from './recovery.ts';

export type RecoveryConfig = Pick<
  GatewayConfig,
  'recovery' | 'recoveryDirectory' | 'recoveryRedis' | 'recoveryRedisPasswordFile' | 'sessionMax'
>;

/** A store that is away is away for every session: the log says so once a minute. */
const SAY_AGAIN_MS = 60_000;

/** What gateways share of sessions. */
export interface Shared {
  readonly news: News;
  readonly ended: EndedSessions;
  /** Undefined where the configuration wants no recovery. */
  readonly recovery: Recovery | undefined;
  close(): void;
}

/**
 * What is shared, and recovery, as the configuration wants it. A Redis that cannot be reached keeps no gateway from starting.
 * @throws {OutriderError} CONFIG_INVALID
 */
export function openShared(
  config: RecoveryConfig,
  balancer: Balancer,
  ring: () => KeyRing,
  log: Logger,
  metrics: Metrics,
): Shared {
  const store = storeOf(config);
  const failures = metrics.counter(
    'outrider_recovery_store_failures_total',
    'Questions to the store that gateways share that had no answer: they move sessions each for itself, and hear of no end of one',
  );
  let saidAt = -Infinity;
  const failed = (error: unknown): void => {
    failures.inc();
    if (performance.now() - saidAt < SAY_AGAIN_MS) return;
    saidAt = performance.now();
    log.warn('where sessions went, and which ended, is not shared with other gateways now', {
      error,
    });
  };
  const news = createNews(store, ring, failed);
  const moved = createMovedSessions(store, ring, failed);
  const ended = new EndedSessions(Date.now, news);
  return {
    news,
    ended,
    recovery: config.recovery
      ? createRecovery({ balancer, moved, ended, news, log, metrics })
      : undefined,
    close: () => store?.close(),
  };
}

/** @throws {OutriderError} CONFIG_INVALID where the configuration alone shows that there cannot be a store */
export function assertStore({ recoveryDirectory, recoveryRedis }: RecoveryConfig): void {
  if (recoveryRedis !== undefined) redisAddress(recoveryRedis);
  if (recoveryRedis !== undefined && recoveryDirectory !== undefined)
    throw new OutriderError(
      'CONFIG_INVALID',
      'gateway.recoveryDirectory and gateway.recoveryRedis: only one of them can say where sessions went and which ended',
    );
}

function storeOf(config: RecoveryConfig): SharedStore | undefined {
  const { recoveryDirectory, recoveryRedis, recoveryRedisPasswordFile, sessionMax } = config;
  assertStore(config);
  if (recoveryRedis !== undefined)
    return sharedRedis(redisPlace(recoveryRedis, recoveryRedisPasswordFile), sessionMax);
  return recoveryDirectory === undefined
    ? undefined
    : sharedDirectory(recoveryDirectory, sessionMax);
}
