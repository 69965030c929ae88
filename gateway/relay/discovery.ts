import { lookup } from 'node:dns/promises';
import { isIP } from 'node:net';
import { OutriderError } from '#core/errors';
import type { GatewayConfig } from '../config.ts';
import type { ServerPlace } from './upstream.ts';

export type ServersConfig = Pick<
  GatewayConfig,
  'servers' | 'serversFrom' | 'serverWeights' | 'serversDraining'
>;

/** The servers as the configuration names them, each with its weight; a draining one gets nothing new. */
export function configuredPlaces(config: ServersConfig): ServerPlace[] {
  const draining = new Set(config.serversDraining.map(({ href }) => href));
  return config.servers.map((url, index) => ({
    url,
    weight: config.serverWeights[index] ?? 1,
    draining: draining.has(url.href),
  }));
}

/**
 * The servers that there are now: with `serversFrom: dns`, each address of each name is one. A failure of DNS is not taken for
 * the end of every server.
 * @throws {OutriderError} CONFIG_INVALID for a name that cannot be looked up
 */
export async function placesNow(config: ServersConfig): Promise<ServerPlace[]> {
  const named = configuredPlaces(config);
  if (config.serversFrom === 'list') return named;
  const found = await Promise.all(
    named.map(async (place) => {
      const addresses = await addressesOf(place.url.hostname.replace(/^\[|\]$/g, ''));
      return addresses.map((address) => placeAt(place, address));
    }),
  );
  return found.flat();
}

async function addressesOf(name: string): Promise<string[]> {
  try {
    return (await lookup(name, { all: true })).map(({ address }) => address);
  } catch (error) {
    throw new OutriderError('CONFIG_INVALID', `gateway.servers: ${name} has no address`, {
      cause: error,
    });
  }
}

/** The same server by its address, which tells its sessions from those of its siblings; it is still called by its name. */
function placeAt(place: ServerPlace, address: string): ServerPlace {
  const url = new URL(place.url);
  url.hostname = isIP(address) === 6 ? `[${address}]` : address;
  return { ...place, url, host: place.url.host };
}
