import type { Socket } from 'node:net';
import type { CheckedAddresses } from './addresses.ts';
import type { Breakers } from './breaker.ts';
import { type DialOptions, dial } from './dial.ts';
import { denialOf } from './refusal.ts';
import type { UpstreamProxy } from './via-proxy.ts';

/** Dials as `dial` does, unless the breaker of that upstream is open, and says to the breaker whether it was reached. */
export type Dialer = (
  host: string,
  addresses: CheckedAddresses,
  options: DialOptions,
) => Promise<Socket>;

/** `via` leads to the public upstreams. */
export function createDialer(breakers: Breakers, via?: UpstreamProxy): Dialer {
  return async (host, addresses, options) => {
    const attempt = breakers.enter(breakerKey(host, options));
    try {
      const socket = await dial(addresses, { ...options, via });
      attempt.reached();
      return socket;
    } catch (error) {
      // With a certificate that is refused the other side was there; who asks again is told the same.
      if (denialOf(error)?.reason === 'upstream_tls') attempt.reached();
      else attempt.failed();
      throw error;
    }
  };
}

/**
 * Who asks for the same in the same way shares a breaker: that one caller's protocol is not offered there, or one datasource's own
 * authority does not vouch for it, shuts the upstream for nobody else.
 */
function breakerKey(host: string, { port, tls }: DialOptions): string {
  return JSON.stringify([host, port, tls && [tls.trustId, tls.protocols]]);
}
