import type { Socket } from 'node:net';
import type { TunnelTarget } from '#policies';
import { assertBound, type Binding, type Grant } from './binding.ts';
import type { Exchange } from './exchange.ts';
import { intercept } from './intercept.ts';
import type { Measures } from './measures.ts';
import { Refused, toRefused } from './refusal.ts';
import type { Origin } from './request-target.ts';
import { tunnel } from './tunnel.ts';

/** A program's wish for a connection, by CONNECT or SOCKS5. */
export interface Opening {
  readonly exchange: Exchange;
  readonly socket: Socket;
  /** Bytes that came with the wish. */
  readonly head: Buffer;
  readonly target: TunnelTarget;
  /** What says yes. */
  readonly accept: Buffer;
  /** Whether it may mean plain HTTP by it in any case: by SOCKS5 a program asks for every connection in the same way. */
  readonly mayBePlain: boolean;
  /** Whether all else that it said means the same target; asked after the decision. @throws {Refused} */
  readonly assertAgrees: () => void;
}

export interface OpeningsDeps {
  readonly limits: {
    readonly tunnels: number;
    readonly helloTimeoutMs: number;
    readonly idleTimeoutMs: number;
  };
  readonly measures: Measures;
  readonly now: () => number;
  /** Takes the rule's places. @throws {Refused} */
  readonly limit: (exchange: Exchange, grant: Grant) => void;
  /** Serves requests to `origin` that come on the socket. */
  readonly serve: (socket: Socket, origin: Origin) => void;
  /** Records a refusal. */
  readonly refuse: (exchange: Exchange, refused: Refused) => void;
}

/**
 * The connections that one sandbox has opened. Each is what the policy makes of it: a tunnel that nobody looks into, TLS that ends here,
 * or plain HTTP. What is looked into is served as requests to the host that it was opened to: each is decided, limited and recorded,
 * and the opening itself has a record only where it came to nothing.
 */
export class Openings {
  readonly #deps: OpeningsDeps;
  #tunnels = 0;

  constructor(deps: OpeningsDeps) {
    this.#deps = deps;
  }

  /** Resolves when the connection is served or has ended. @throws {Refused} before anything was said to the program */
  async open(opening: Opening): Promise<void> {
    const { exchange, target } = opening;
    const binding = assertBound(exchange.binding);
    let grant: Grant;
    try {
      grant = binding.permit(target, this.#deps.now());
    } catch (thrown) {
      // No tunnel, but a rule for this host and port: then it looks at plain requests.
      const refused = toRefused(thrown);
      if (refused.reason !== 'connect_not_allowed' || !mayBePlain(binding, opening)) throw refused;
      opening.assertAgrees();
      this.#servePlain(opening);
      return;
    }
    exchange.grant = grant;
    opening.assertAgrees();
    if (grant.intercept) await this.#intercept(opening);
    else await this.#tunnel(opening, grant);
  }

  #servePlain({ exchange, socket, head, accept, target }: Opening): void {
    socket.write(accept);
    socket.unshift(head);
    exchange.becomeIntercepted();
    this.#deps.serve(socket, { scheme: 'http', target });
  }

  async #intercept(opening: Opening): Promise<void> {
    const { exchange, socket, target } = opening;
    const authority = exchange.binding?.authority;
    // Without a rule at claim that looks into TLS, nothing in the sandbox trusts a certificate of ours.
    if (!authority || target.host.ip)
      throw new Refused('interception_required', {
        rule: exchange.grant?.rule,
        target: exchange.targetText,
      });
    const { helloTimeoutMs } = this.#deps.limits;
    try {
      const spoken = exchange.binding?.spokenTo(target, 'https');
      const http2 = (spoken?.has('http2') ?? false) || (spoken?.has('grpc') ?? false);
      const secure = await intercept({ ...opening, authority, http2, helloTimeoutMs });
      if (exchange.ended) return;
      exchange.becomeIntercepted();
      this.#deps.serve(secure, { scheme: 'https', target });
    } catch (thrown) {
      // The program was told yes already: all that is left is to end the connection.
      this.#deps.refuse(exchange, toRefused(thrown));
      socket.destroy();
    }
  }

  /** Takes the place of a tunnel, or of what will be as long as one. @throws {Refused} tunnel_limit */
  occupy(exchange: Exchange): void {
    const { limits, measures } = this.#deps;
    if (this.#tunnels >= limits.tunnels) throw new Refused('tunnel_limit');
    this.#tunnels += 1;
    measures.tunnels.inc();
    exchange.onEnd(() => {
      this.#tunnels -= 1;
      measures.tunnels.dec();
    });
  }

  async #tunnel(opening: Opening, grant: Grant): Promise<void> {
    const { limits, now, limit } = this.#deps;
    const { exchange } = opening;
    this.occupy(exchange);
    limit(exchange, grant);
    const { helloTimeoutMs, idleTimeoutMs } = limits;
    const binding = assertBound(exchange.binding);
    await tunnel({ ...opening, grant, binding, helloTimeoutMs, idleTimeoutMs, now });
  }
}

/** Clients of WebSocket and gRPC open a tunnel even where they then speak plainly; no other asks CONNECT for plain HTTP. */
function mayBePlain(binding: Binding, { mayBePlain: always, target }: Opening): boolean {
  if (always) return true;
  const spoken = binding.spokenTo(target, 'http');
  return spoken.has('websocket') || spoken.has('grpc');
}
