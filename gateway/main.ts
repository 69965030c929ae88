import { accessSync, constants } from 'node:fs';
import { dirname, join } from 'node:path';
import { formatAddress, isLoopback } from '#core/address';
import { OutriderError } from '#core/errors';
import { handOver } from '#core/hand-over';
import { isRoot, uidOf } from '#core/mesh-user';
import { Metrics } from '#core/metrics';
import { type Env, runPart } from '#core/run-part';
import { type GatewayConfig, gatewaySpec } from './config.ts';
import { PREFIX } from './recovery/moves/store.ts';
import { createGateway } from './server.ts';
import { makeSessionKeys } from './sessions/key-ring.ts';

/** `outrider gateway [--config FILE] [options]`: runs until a signal; resolves to the exit code. */
export function main(argv: readonly string[], env: Env): Promise<number> {
  return runPart(
    {
      name: 'gateway',
      spec: gatewaySpec,
      user: (config) => config.user,
      start: async (config, log, giveUpRoot) => {
        if (config.insecure)
          log.warn('authentication is off: every process of this machine may call');
        const gateway = createGateway(keptBy(config), { log, metrics: new Metrics('gateway') });
        const address = formatAddress(await gateway.start());
        try {
          giveUpRoot();
          assertReadableLater(config);
        } catch (error) {
          await gateway.stop();
          throw error;
        }
        return {
          address,
          stop: () => gateway.stop(),
          reload: (next) => gateway.reload(next),
        };
      },
    },
    argv,
    env,
  );
}

/** Who tightens a policy relies on its being read again. @throws {OutriderError} CONFIG_INVALID */
function assertReadableLater({ policies }: GatewayConfig): void {
  try {
    if (policies !== undefined) accessSync(policies, constants.R_OK);
  } catch (cause) {
    throw new OutriderError(
      'CONFIG_INVALID',
      `gateway.policies: ${policies} cannot be read by uid ${process.getuid?.()}, which the gateway is after its start, and so not be read again when it changes. Let that user read it, or set gateway.user: 0`,
      { cause },
    );
  }
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
    recoveryDirectory: recoveryDirectory && dirname(handOver(join(recoveryDirectory, PREFIX), uid)),
  };
}
