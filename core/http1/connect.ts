import { connect as connectPlain, isIP, type NetConnectOpts, type Socket } from 'node:net';
import { checkServerIdentity, connect as connectTls } from 'node:tls';
import { afterTime } from './after-time.ts';
import type { Http1Connector } from './client.ts';

export interface ConnectOptions {
  readonly timeoutMs: number;
  /** TLS, verified for this name. */
  readonly tls?: { readonly name: string } | undefined;
}

const KEEP_ALIVE_MS = 60_000;

/**
 * Connections to one place, over TCP or a unix socket. Fails with what `node:net` or `node:tls` say, or after `timeoutMs`. What came while
 * this process was held up counts as in time.
 */
export function connector(to: NetConnectOpts, { timeoutMs, tls }: ConnectOptions): Http1Connector {
  return (done) => {
    const socket = tls
      ? connectTls({
          ...to,
          ALPNProtocols: ['http/1.1'],
          // An address has no SNI (RFC 6066 3), and its certificate is still to be for it.
          ...(isIP(tls.name) === 0 ? { servername: tls.name } : {}),
          checkServerIdentity: (_host, certificate) => checkServerIdentity(tls.name, certificate),
        })
      : connectPlain(to);
    const late = Object.assign(new Error('no connection in time'), { code: 'ETIMEDOUT' });
    whenConnected(socket, tls ? 'secureConnect' : 'connect', { timeoutMs, late }, (error, made) => {
      made?.setKeepAlive(true, KEEP_ALIVE_MS);
      done(error, made);
    });
  };
}

/** Hands `socket` over when `event` says that it stands; after `timeoutMs` it is destroyed with `late`. */
export function whenConnected(
  socket: Socket,
  event: 'connect' | 'secureConnect',
  { timeoutMs, late }: { readonly timeoutMs: number; readonly late: Error },
  done: Parameters<Http1Connector>[0],
): void {
  const noLonger = afterTime(timeoutMs, () => {
    socket.destroy(late);
  });
  const failed = (error: Error): void => {
    noLonger();
    done(error, null);
  };
  socket.once('error', failed);
  socket.once(event, () => {
    noLonger();
    socket.off('error', failed).setNoDelay(true);
    done(null, socket);
  });
}
