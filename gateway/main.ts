import { dirname, join } from 'node:path';
import { formatAddress, isLoopback } from '#core/address';
import { handOver } from '#core/hand-over';
import { isRoot, uidOf } from '#core/mesh-user';
import { Metrics } from '#core/metrics';
import { type Env, runPart } from '#core/run-part';
import { type GatewayConfig, gatewaySpec } from './config.ts';
import { MOVE_PREFIX } from './recovery/moved-sessions.ts';
import { createGateway } from './server.ts';
import { makeSessionKeys } from './sessions/key-ring.ts';

/** `outrider gateway [--config FILE] [options]`: runs until a signal; resolves to the exit code. */
export function main(argv: readonly string[], env: Env): Promise<number> {
  return runPart(
    {
      name: 'gateway',
      spec: gatewaySpec,
      user: (config) => config.user,
      start: async (config, log) => {
        if (config.insecure)
          log.warn('authentication is off: every process of this machine may call');
        const gateway = createGateway(keptBy(config), { log, metrics: new Metrics('gateway') });
        return {
          address: formatAddress(await gateway.start()),
          stop: () => gateway.stop(),
          reload: (next) => gateway.reload(next),
        };
      },
    },
    argv,
    env,
  );
}

/** What it replaces, or reads again when it has changed, it must reach after it has given up root. */
function keptBy(config: GatewayConfig): GatewayConfig {
  const { sessionKeys, policyKeys, policySerials, recoveryDirectory, listen, user } = config;
  const uid = isRoot() ? uidOf(user) : 0;
  if (uid === 0) return config;
  if (isLoopback(listen)) makeSessionKeys(sessionKeys);
  return {
    ...config,
    sessionKeys: handOver(sessionKeys, uid),
    policySerials: policyKeys === undefined ? policySerials : handOver(policySerials, uid),
    recoveryDirectory:
      recoveryDirectory && dirname(handOver(join(recoveryDirectory, MOVE_PREFIX), uid)),
  };
}
