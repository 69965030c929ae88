import { createHash } from 'node:crypto';
import type { Socket } from 'node:net';
import { TLSSocket } from 'node:tls';
import type { HttpRequest } from '#core/http-exchange';

const thumbprints = new WeakMap<Socket, string>();

/**
 * The SHA-256 thumbprint of the client certificate that a request came over (RFC 8705 3.1: base64url of the DER); undefined on a socket of this
 * machine, which shows none. A listener with TLS has refused a client without one; where one came through all the same, it is empty, which no token
 * is bound to.
 */
export function channelOf({ socket }: Pick<HttpRequest, 'socket'>): string | undefined {
  if (!(socket instanceof TLSSocket)) return undefined;
  if (!thumbprints.has(socket)) thumbprints.set(socket, thumbprintOf(socket));
  return thumbprints.get(socket);
}

function thumbprintOf(socket: TLSSocket): string {
  const raw = socket.getPeerX509Certificate()?.raw;
  return raw ? createHash('sha256').update(raw).digest('base64url') : '';
}
