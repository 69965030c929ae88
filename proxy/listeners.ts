import { readFileSync } from 'node:fs';
import type { ServerOptions } from 'node:https';
import type { Address } from '#core/address';
import { OutriderError } from '#core/errors';
import type { ProxyConfig } from './config.ts';

type Settings = Pick<ProxyConfig, 'serverTls.cert' | 'serverTls.key' | 'serverTls.clientCa'>;

const HANDSHAKE_MS = 10_000;

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
