import { readFileSync } from 'node:fs';
import type { ServerOptions } from 'node:https';
import { type Address, formatAddress, isLoopback } from '#core/address';
import { OutriderError } from '#core/errors';
import type { ProxyConfig } from './config.ts';

type Settings = Pick<
  ProxyConfig,
  'listen' | 'tcp' | 'auth' | 'insecure' | 'serverTls.cert' | 'serverTls.key' | 'serverTls.clientCa'
>;

const HANDSHAKE_MS = 10_000;

/**
 * What may be listened on. Tokens that anybody on the way could read, and a door without any, stay on this machine unless that is forced.
 * @throws {OutriderError} CONFIG_INVALID
 */
export function assertMeantToBeReached(settings: Settings): void {
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

/** The TLS settings of a listener at an address; undefined where it is a plain one. @throws {OutriderError} CONFIG_INVALID */
export function tlsAt(address: Address, settings: Settings): ServerOptions | undefined {
  return address.kind === 'unix' || settings['serverTls.cert'] === undefined
    ? undefined
    : mutualTls(settings);
}

/** Only a client with a certificate of the configured authority gets to say anything. */
function mutualTls(settings: Settings): ServerOptions {
  return {
    cert: read(settings['serverTls.cert'], 'cert'),
    key: read(settings['serverTls.key'], 'key'),
    ca: read(settings['serverTls.clientCa'], 'clientCa'),
    requestCert: true,
    rejectUnauthorized: true,
    minVersion: 'TLSv1.3',
    handshakeTimeout: HANDSHAKE_MS,
  };
}

function read(path: string | undefined, key: string): string {
  try {
    return readFileSync(path ?? '', 'utf8');
  } catch (error) {
    throw new OutriderError('CONFIG_INVALID', `proxy.serverTls.${key}: ${path} cannot be read`, {
      cause: error,
    });
  }
}
