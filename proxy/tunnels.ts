import type { Duplex } from 'node:stream';
import { decide, type TunnelTarget } from '#policies';
import type { Authority, Caller } from './authority.ts';

interface Open {
  readonly caller: Caller;
  readonly target: TunnelTarget;
  readonly socket: Duplex;
}

/** The tunnels that are open: closed when the policy no longer allows them, when their exec must be over, and at the end. */
export class Tunnels {
  readonly #open = new Set<Open>();

  get size(): number {
    return this.#open.size;
  }

  /** Keeps a tunnel until its socket closes. */
  add(caller: Caller, target: TunnelTarget, socket: Duplex): void {
    const tunnel: Open = { caller, target, socket };
    this.#open.add(tunnel);
    const over = setTimeout(() => socket.destroy(), Math.max(0, caller.endsAtMs - Date.now()));
    over.unref();
    socket.once('close', () => {
      clearTimeout(over);
      this.#open.delete(tunnel);
    });
  }

  /** To be called when the policy has changed: only tightening reaches a tunnel that is open. */
  recheck(authority: Authority): void {
    for (const { caller, target, socket } of this.#open) {
      const policy = authority.policyNow(caller.identity);
      const decision = policy && decide(policy, target, Date.now());
      if (decision?.verdict !== 'allow' || decision.intercept) socket.destroy();
    }
  }

  closeAll(): void {
    for (const { socket } of this.#open) socket.destroy();
  }
}
