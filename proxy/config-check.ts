import { formatAddress, isLoopback } from '#core/address';
import { assertAll } from '#core/config-problems';
import { OutriderError } from '#core/errors';
import { assertSafePlace } from '#core/fetch-issuer-keys';
import { assertIssuerList } from '#core/issuer-list';
import type { ProxyConfig } from './config.ts';

/**
 * What no proxy could start with, as far as the configuration alone shows it.
 * @throws {OutriderError} CONFIG_INVALID with everything that is wrong
 */
export function assertProxyConfig(settings: ProxyConfig): void {
  const { issuers } = settings;
  assertAll(
    () => assertListeners(settings),
    () => assertIssuerList('proxy.issuers', issuers),
    ...issuers.map((issuer) => () => assertSafePlace(issuer)),
  );
}

/** Tokens that anybody on the way could read, and a door without any, stay on this machine unless that is forced. */
function assertListeners(settings: ProxyConfig): void {
  const { listen, tcp, auth, insecure } = settings;
  const given = [
    settings['serverTls.cert'],
    settings['serverTls.key'],
    settings['serverTls.clientCa'],
  ].filter((path) => path !== undefined).length;
  if (given !== 0 && given !== 3)
    throw new OutriderError(
      'CONFIG_INVALID',
      'proxy.serverTls needs all of cert, key and clientCa: sidecars are known by their certificates',
    );
  const open = [listen, tcp].find((address) => address !== undefined && !isLoopback(address));
  if (!open || insecure) return;
  const shown = formatAddress(open);
  if (auth !== 'jwt')
    throw new OutriderError(
      'CONFIG_INVALID',
      `proxy.auth ${auth} is possible at an address of this machine only, and ${shown} can be reached from others: listen on a unix socket or on loopback, or force it with proxy.insecure`,
    );
  if (given === 0)
    throw new OutriderError(
      'CONFIG_INVALID',
      `proxy: ${shown} can be reached from other machines, which needs mutual TLS: set proxy.serverTls, or listen on a unix socket or on loopback`,
    );
}
