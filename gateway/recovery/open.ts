import { OutriderError } from '#core/errors';
import type { Logger } from '#core/log';
import type { Metrics } from '#core/metrics';
import type { GatewayConfig } from '../config.ts';
import type { Balancer } from '../relay/balancer.ts';
import type { KeyRing } from '../sessions/key-ring.ts';
import { createMovedSessions } from './moved-sessions.ts';
import { directoryMoves } from './moves/directory.ts';
import { redisMoves } from './moves/redis.ts';
import { redisAddress, redisPlace } from './moves/redis-place.ts';
import type { MoveStore } from './moves/store.ts';
import { createRecovery, type Recovery } from './recovery.ts';

export type RecoveryConfig = Pick<
  GatewayConfig,
  'recovery' | 'recoveryDirectory' | 'recoveryRedis' | 'recoveryRedisPasswordFile' | 'sessionMax'
>;

/** A store that is away is away for every session: the log says so once a minute. */
const SAY_AGAIN_MS = 60_000;

/**
 * Recovery as the configuration wants it; undefined where it does not. A Redis that cannot be reached keeps no gateway from
 * starting.
 * @throws {OutriderError} CONFIG_INVALID
 */
export function openRecovery(
  config: RecoveryConfig,
  balancer: Balancer,
  ring: () => KeyRing,
  log: Logger,
  metrics: Metrics,
): Recovery | undefined {
  const store = storeOf(config);
  if (!config.recovery) return undefined;
  const failures = metrics.counter(
    'outrider_recovery_store_failures_total',
    'Questions to the store of moved sessions that had no answer: gateways move sessions each for itself',
  );
  let saidAt = -Infinity;
  const moved = createMovedSessions(store, ring, (error) => {
    failures.inc();
    if (performance.now() - saidAt < SAY_AGAIN_MS) return;
    saidAt = performance.now();
    log.warn('where sessions went is not shared with other gateways now', { error });
  });
  return createRecovery({ balancer, moved, log, metrics });
}

/** @throws {OutriderError} CONFIG_INVALID where the configuration alone shows that there cannot be a store */
export function assertStore({ recoveryDirectory, recoveryRedis }: RecoveryConfig): void {
  if (recoveryRedis !== undefined) redisAddress(recoveryRedis);
  if (recoveryRedis !== undefined && recoveryDirectory !== undefined)
    throw new OutriderError(
      'CONFIG_INVALID',
      'gateway.recoveryDirectory and gateway.recoveryRedis: only one of them can say where sessions went',
    );
}

function storeOf(config: RecoveryConfig): MoveStore | undefined {
  const { recoveryDirectory, recoveryRedis, recoveryRedisPasswordFile, sessionMax } = config;
  assertStore(config);
  if (recoveryRedis !== undefined)
    return redisMoves(redisPlace(recoveryRedis, recoveryRedisPasswordFile), sessionMax);
  return recoveryDirectory === undefined
    ? undefined
    : directoryMoves(recoveryDirectory, sessionMax);
}
