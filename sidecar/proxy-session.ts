import {
  type ClientHttp2Session,
  type ClientHttp2Stream,
  connect as connectHttp2,
} from 'node:http2';
import { connect, type Socket } from 'node:net';
import { type Address, socketOptions } from '#core/address';
import { type ProxyTls, tlsToProxy } from './proxy-tls.ts';

const STREAM_WINDOW_BYTES = 262_144;
const SESSION_WINDOW_BYTES = 4 * 1_048_576;

/**
 * The connection of one exec to the proxy over HTTP/2, by prior knowledge, or by ALPN between hosts; opened when it is first needed, anew after it was lost, and gone
 * with the exec. It leads to one address whatever a request's target is.
 */
export class ProxySession {
  readonly #proxy: Address;
  readonly #tls: ProxyTls | undefined;
  #session: ClientHttp2Session | undefined;

  constructor(proxy: Address, tls: ProxyTls | undefined) {
    this.#proxy = proxy;
    this.#tls = tls;
  }

  /** Sends the head of a request; its body is open unless `endStream`. Whatever goes wrong is told by the stream. */
  request(headers: string[], endStream: boolean): ClientHttp2Stream {
    return this.#usable().request(headers, { endStream });
  }

  destroy(): void {
    this.#session?.destroy();
  }

  #connect(): Socket {
    const [proxy, tls] = [this.#proxy, this.#tls];
    return tls && proxy.kind === 'tcp'
      ? tlsToProxy(proxy, tls, ['h2'])
      : connect(socketOptions(proxy));
  }

  #usable(): ClientHttp2Session {
    const current = this.#session;
    if (current && !current.closed && !current.destroyed) return current;
    const session = connectHttp2('http://proxy', {
      createConnection: () => this.#connect(),
      maxSessionMemory: 64,
      settings: { enablePush: false, initialWindowSize: STREAM_WINDOW_BYTES },
    });
    session.on('error', () => {}); // its streams hear of it
    session.once('connect', () => session.setLocalWindowSize(SESSION_WINDOW_BYTES));
    this.#session = session;
    return session;
  }
}
