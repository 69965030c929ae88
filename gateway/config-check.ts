import { formatAddress, isLoopback } from '#core/address';
import { assertAll } from '#core/config-problems';
import { OutriderError } from '#core/errors';
import { assertIssuers } from './auth/issuer-token.ts';
import type { GatewayConfig } from './config.ts';
import { createHostOriginCheck, LOOPBACK_HOSTS } from './host-origin.ts';
import { assertStore } from './recovery/open.ts';

/**
 * What no gateway could start with or take over, as far as the configuration alone shows it: looks at no file and no network. The same at
 * the start, at a reload and in `outrider config check`.
 * @throws {OutriderError} CONFIG_INVALID with everything that is wrong
 */
export function assertGatewayConfig(config: GatewayConfig): void {
  assertAll(
    () => assertServers(config),
    () => assertDraining(config),
    () => createHostOriginCheck(config.allowedHosts, []),
    () => createHostOriginCheck([], config.allowedOrigins),
    () => assertLetsNotEverybodyIn(config),
    () => assertMeantToBeReached(config),
    () => assertIssuers(config.issuers),
    () => assertStore(config),
  );
}

function assertServers({ servers }: GatewayConfig): void {
  if (servers.length === 0)
    throw new OutriderError('CONFIG_INVALID', 'gateway.servers must name at least one server');
}

/** One that is spelt differently would go on as if nothing had been said. */
function assertDraining({ servers, serversDraining }: GatewayConfig): void {
  const known = new Set(servers.map(({ href }) => href));
  const unknown = serversDraining.filter(({ href }) => !known.has(href));
  if (unknown.length > 0)
    throw new OutriderError(
      'CONFIG_INVALID',
      `gateway.serversDraining: ${unknown.map(({ href }) => href).join(', ')} is none of gateway.servers; name each as it is there`,
    );
}

function assertLetsNotEverybodyIn({ insecure, listen }: GatewayConfig): void {
  if (insecure && !isLoopback(listen))
    throw new OutriderError(
      'CONFIG_INVALID',
      'gateway.insecure is possible on a loopback address only: change gateway.listen, or configure a token or an issuer',
    );
}

/** Who opens the gateway to other machines says by which name, and so thought of it. */
function assertMeantToBeReached({ listen, allowedHosts }: GatewayConfig): void {
  const names = new Set(allowedHosts);
  const asByDefault =
    names.size === LOOPBACK_HOSTS.length && LOOPBACK_HOSTS.every((name) => names.has(name));
  if (!isLoopback(listen) && asByDefault)
    throw new OutriderError(
      'CONFIG_INVALID',
      `gateway.listen: ${formatAddress(listen)} can be reached from other machines, and no client there could call it: end TLS in front of the gateway, because tokens reach it in clear, and name what clients call it by in gateway.allowedHosts`,
    );
}
