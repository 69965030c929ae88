import { join } from 'node:path';
import { type Address, parseAddress } from '#core/address';
import * as config from '#core/config';
import { meshUser } from '#core/mesh-user';

/** The keys of the section `sidecar`. */
export function sidecarSpec(paths: { runtime: string; state: string }) {
  return {
    listen: config.address(
      'where the runner drives attachments (gRPC); a unix socket, because whoever reaches it opens doors',
      `unix:${join(paths.runtime, 'sidecar.sock')}`,
    ),
    proxy: config.address(
      'the credential proxy: the only address that a sidecar ever dials',
      `unix:${join(paths.runtime, 'proxy.sock')}`,
    ),
    'proxyTls.cert': config.optionalText(
      'PEM files with which a proxy on another host is called, over TCP: the certificate of this sidecar, with its chain;',
    ),
    'proxyTls.key': config.optionalText(
      'its key, readable by the user that the parts of the mesh become;',
    ),
    'proxyTls.ca': config.optionalText('the authorities that sign the certificate of the proxy'),
    admin: config.optionalAddress(
      'where /livez, /readyz and /metrics answer; default 127.0.0.1:8793, and never with exitWithAttachment',
    ),
    exitWithAttachment: config.bool(
      'serve one attachment and exit with it: the process of one sandbox',
      false,
    ),
    watchStdin: config.bool('exit when stdin ends, as it does when the parent dies', false),
    spoolRecords: config.integer(
      'audit records that one attachment keeps while the proxy is away; beyond it traffic is refused',
      16,
      1_000_000,
      10_000,
    ),
    connections: config.integer('connections of one sandbox at once', 1, 65_535, 256),
    tunnels: config.integer('tunnels of one sandbox at once', 1, 65_535, 128),
    requestBytes: config.bytes('size of one request body, whatever a rule allows', 2 ** 40),
    headerBytes: config.bytes('size of a request head', 16_384, 1_024),
    headerCount: config.integer('header lines of a request', 8, 1_000, 100),
    headerTimeout: config.duration('time for a request head to arrive', 10_000, 1),
    bodyTimeout: config.duration('time for a whole request to arrive', 600_000, 1),
    idleTimeout: config.duration('silence after which a tunnel or an answer is cut', 300_000, 1),
    helloTimeout: config.duration('time for the TLS hello behind a CONNECT', 4_000, 1),
    proxyTimeout: config.duration("time for the head of the proxy's answer", 90_000, 1),
    user: meshUser(),
    logLevel: config.choice(
      'least level that is logged',
      ['debug', 'info', 'warn', 'error'],
      'info',
    ),
  };
}

export type SidecarConfig = config.ConfigOf<ReturnType<typeof sidecarSpec>>;

/** Where the admin routes answer: never in the process of one sandbox, of which a machine has many with the same settings. */
export function adminAddress(settings: SidecarConfig): Address | undefined {
  if (settings.exitWithAttachment) return undefined;
  return settings.admin ?? parseAddress('127.0.0.1:8793');
}
