import type { Socket } from 'node:net';
import type { CheckedAddresses } from './addresses.ts';
import type { Breakers } from './breaker.ts';
import { type DialOptions, dial } from './dial.ts';
import type { UpstreamProxy } from './via-proxy.ts';

/** Dials as `dial` does, unless the breaker of that upstream is open, and says to the breaker what came of it. */
export type Dialer = (
  host: string,
  addresses: CheckedAddresses,
  options: DialOptions,
) => Promise<Socket>;

/** `host` and port name the upstream to its breaker; `via` leads to the public ones. */
export function createDialer(breakers: Breakers, via?: UpstreamProxy): Dialer {
  return async (host, addresses, options) => {
    const attempt = breakers.enter(`${host}:${options.port}`);
    try {
      const socket = await dial(addresses, { ...options, via });
      attempt.reached();
      return socket;
    } catch (error) {
      attempt.failed();
      throw error;
    }
  };
}
