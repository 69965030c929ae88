import { connect, isIP, type Socket } from 'node:net';
import {
  connect as connectTls,
  createSecureContext,
  getCACertificates,
  type SecureContext,
} from 'node:tls';
import { OutriderError } from '#core/errors';
import { classifyIp, parseIp } from '#policies';
import type { CheckedAddresses } from './addresses.ts';
import { refused } from './refusal.ts';
import { connectVia, type UpstreamProxy } from './via-proxy.ts';

export interface DialOptions {
  readonly port: number;
  /** TLS, verified for this canonical host; absent: plain. */
  readonly tls?:
    | {
        readonly host: string;
        readonly context: SecureContext;
        /** Names a context that is not the proxy's own. */
        readonly trustId?: string | undefined;
        /** What is offered by ALPN; default HTTP/1.1 alone. */
        readonly protocols?: readonly string[];
      }
    | undefined;
  /** Bounds all addresses and the TLS handshake together. */
  readonly timeoutMs: number;
  /** Leads to public addresses; others are reached directly. */
  readonly via?: UpstreamProxy | undefined;
}

/** The authorities of this Node and those of `extraPem`. */
export function upstreamTrust(extraPem: string | undefined): SecureContext {
  // Without a list of its own a context shares the store that Node has read already.
  if (extraPem === undefined) return createSecureContext();
  return createSecureContext({ ca: [...getCACertificates('default'), extraPem] });
}

/**
 * A connection to the first of the checked addresses that answers. Nothing is resolved here: an address that was not checked
 * cannot be passed.
 * @throws {OutriderError} UPSTREAM_UNREACHABLE
 */
export async function dial(addresses: CheckedAddresses, options: DialOptions): Promise<Socket> {
  const end = performance.now() + options.timeoutMs;
  const failures: unknown[] = [];
  for (const [index, address] of addresses.texts.entries()) {
    const left = end - performance.now();
    if (left <= 0) break;
    try {
      return await dialOne(address, options, left / (addresses.texts.length - index));
    } catch (error) {
      failures.push(error);
    }
  }
  const tls = failures.some(isTlsFailure);
  const because = new AggregateError(failures, 'no address answered');
  throw tls
    ? refused(
        'UPSTREAM_UNREACHABLE',
        "the other side's certificate is not valid for its name",
        'upstream_tls',
        { because: failures.find(isTlsFailure) },
      )
    : new OutriderError('UPSTREAM_UNREACHABLE', 'the other side could not be reached', {
        cause: because,
      });
}

async function dialOne(host: string, options: DialOptions, timeoutMs: number): Promise<Socket> {
  const { port, via } = options;
  if (!via || !isPublic(host)) return connectTo(host, options, timeoutMs);
  const end = performance.now() + timeoutMs;
  const tunnel = await connectVia(via, host, port, timeoutMs);
  return options.tls ? connectTo(host, options, end - performance.now(), tunnel) : tunnel;
}

function isPublic(address: string): boolean {
  const bytes = parseIp(address);
  return bytes !== undefined && classifyIp(bytes) === 'public';
}

/** Connects, or speaks TLS over what is connected already. */
function connectTo(
  host: string,
  { port, tls }: DialOptions,
  timeoutMs: number,
  over?: Socket,
): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = tls
      ? connectTls({
          ...(over ? { socket: over } : { host, port }),
          secureContext: tls.context,
          ALPNProtocols: [...(tls.protocols ?? ['http/1.1'])],
          // An address has no SNI (RFC 6066 3); its certificate is then checked against the address.
          ...(isIP(tls.host) === 0 ? { servername: tls.host } : over ? { host: tls.host } : {}),
        })
      : connect({ host, port });
    const timer = setTimeout(() => socket.destroy(new Error('no connection in time')), timeoutMs);
    const onClose = () => reject(new Error('closed while connecting'));
    const onError = (error: Error) => {
      clearTimeout(timer);
      reject(error);
    };
    socket.once('error', onError);
    socket.once('close', onClose);
    socket.once(tls ? 'secureConnect' : 'connect', () => {
      clearTimeout(timer);
      socket.off('error', onError);
      socket.off('close', onClose);
      socket.setNoDelay(true);
      socket.setKeepAlive(true, 60_000);
      resolve(socket);
    });
  });
}

/** A handshake that failed on what the other side showed; the connection itself was there. */
function isTlsFailure(error: unknown): boolean {
  if (!(error instanceof Error) || !('code' in error)) return false;
  return /^(ERR_TLS|ERR_SSL|CERT_|UNABLE_TO_|DEPTH_ZERO|SELF_SIGNED|HOSTNAME_|EPROTO)/.test(
    String(error.code),
  );
}
