import { createHash, X509Certificate } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { isIP } from 'node:net';
import { connect, type TLSSocket } from 'node:tls';
import type { Address } from '#core/address';
import { OutriderError } from '#core/errors';
import type { Http1Connector } from '#core/http1/client';
import { whenConnected } from '#core/http1/connect';
import type { SidecarConfig } from './config.ts';

/** What a sidecar shows the proxy between hosts, and how it knows the proxy. PEM. */
export interface ProxyTls {
  readonly cert: string;
  readonly key: string;
  readonly ca: string;
  /** SHA-256 of the certificate, base64url (RFC 8705 3.1): the runner binds execution tokens to it. */
  readonly thumbprint: string;
}

const KEYS = ['cert', 'key', 'ca'] as const;

/**
 * The configured certificate; undefined where there is none.
 * @throws {OutriderError} CONFIG_INVALID where it is configured in part, cannot be read, or the proxy is on a unix socket
 */
export function readProxyTls(config: SidecarConfig): ProxyTls | undefined {
  const files = proxyTlsFiles(config);
  if (!files) return undefined;
  const [cert, key, ca] = KEYS.map((name) => read(name, files[name]));
  return { cert: cert ?? '', key: key ?? '', ca: ca ?? '', thumbprint: thumbprintOf(cert ?? '') };
}

/** Where it is; undefined where there is none. @throws {OutriderError} CONFIG_INVALID */
export function proxyTlsFiles(
  config: SidecarConfig,
): Readonly<Record<(typeof KEYS)[number], string>> | undefined {
  const given = KEYS.filter((key) => config[`proxyTls.${key}`] !== undefined);
  if (given.length === 0) return undefined;
  if (given.length < KEYS.length)
    throw invalid('needs all of cert, key and ca: the proxy knows sidecars by their certificates');
  if (config.proxy.kind === 'unix')
    throw invalid('is for a proxy that is called over TCP, and sidecar.proxy is a unix socket');
  return {
    cert: config['proxyTls.cert'] ?? '',
    key: config['proxyTls.key'] ?? '',
    ca: config['proxyTls.ca'] ?? '',
  };
}

/** Begins a TLS connection to the proxy, which has to show its certificate. */
export function tlsToProxy(
  { host, port }: Address & { kind: 'tcp' },
  { cert, key, ca }: ProxyTls,
  protocols: readonly string[] = [],
): TLSSocket {
  return connect({
    host,
    port,
    cert,
    key,
    ca,
    minVersion: 'TLSv1.3',
    ...(isIP(host) === 0 ? { servername: host } : {}),
    ...(protocols.length > 0 ? { ALPNProtocols: [...protocols] } : {}),
  });
}

/**
 * Connects to the proxy over TLS: whatever a request's `Host` is, it is the proxy that has to show its certificate.
 */
export function tlsConnector(
  proxy: Address & { kind: 'tcp' },
  tls: ProxyTls,
  timeoutMs: number,
): Http1Connector {
  return (done) => {
    const late = new Error('no TLS with the proxy in time');
    whenConnected(tlsToProxy(proxy, tls), 'secureConnect', { timeoutMs, late }, done);
  };
}

function thumbprintOf(pem: string): string {
  try {
    return createHash('sha256').update(new X509Certificate(pem).raw).digest('base64url');
  } catch (error) {
    throw invalid('cert is no certificate in PEM', error);
  }
}

function read(name: string, path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    throw invalid(`${name}: ${path} cannot be read`, error);
  }
}

function invalid(message: string, cause?: unknown): OutriderError {
  return new OutriderError('CONFIG_INVALID', `sidecar.proxyTls ${message}`, { cause });
}
