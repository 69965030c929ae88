import { isIP } from 'node:net';
import { isLoopback } from './address.ts';
import type { HttpRequest } from './http-exchange.ts';
import { hostOf } from './request-target.ts';

type Asking = Pick<HttpRequest, 'url' | 'headers' | 'rawHeaders'> & {
  readonly socket: { readonly localAddress?: string | undefined };
};

/**
 * How a web page that is open in a browser of this machine may be what asks: `origin`, it says so itself; `name`, it may have given a name
 * of its own this machine's address (DNS rebinding: to its browser that is the page's own site, and no `Origin` is sent). Undefined
 * where no page can be: not reached on loopback, or called by an address or as `localhost`, which are nobody's to give.
 * @throws {OutriderError} INVALID_REQUEST for two Host headers
 */
export function pageBehind(request: Asking): 'origin' | 'name' | undefined {
  const at = request.socket.localAddress?.replace(/^::ffff:/, '');
  if (at === undefined || !isLoopback({ kind: 'tcp', host: at, port: 0 })) return undefined;
  if (request.headers.origin !== undefined) return 'origin';
  const host = hostOf(request);
  return host === undefined || isOfThisMachine(host) ? undefined : 'name';
}

function isOfThisMachine(host: string): boolean {
  const name = host.replace(/:\d*$/, '').toLowerCase();
  return name === 'localhost' || isIP(name.replace(/^\[(.*)\]$/, '$1')) !== 0;
}
