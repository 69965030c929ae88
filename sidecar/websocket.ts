import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { acceptsHandshake, handshakeKey, switchingProtocols } from '#core/websocket';
import { originForm } from '#policies';
import { AnswerRelay, authority, type ForwardCall, wireHeaders } from './forward.ts';
import { returnedHeaders } from './header-fields.ts';
import { Refused } from './refusal.ts';
import { splice } from './tunnel.ts';

/** The program's connection, which nobody reads requests from any more. */
export interface Upgrading {
  readonly socket: Socket;
  /** Ends the answer's hold on it. */
  readonly detach: () => void;
  /** Silence after which it is cut. */
  readonly idleTimeoutMs: number;
}

/**
 * Asks the proxy for a WebSocket (RFC 6455), and connects the two ends once its 101 answers the program's own key. Any other answer is an
 * answer like that of any request, and the last on its connection. Nothing that the program says before the 101 goes anywhere: whoever
 * does not mean a WebSocket gets no second request past the door.
 * @throws {Refused} what is found before anything has left
 */
export function openWebSocket(call: ForwardCall, upgrading: Upgrading): void {
  const { exchange, binding, target, request, nowMs } = call;
  const key = handshakeKey(request.rawHeaders);
  if (key === undefined) throw new Refused('upgrade_not_allowed');
  const token = binding.token(nowMs);
  exchange.forwarded = true;
  binding.pool.dispatch(
    {
      method: 'GET',
      path: `${authority(target).origin}${originForm(target)}`,
      headers: wireHeaders(call, token, false),
      upgrade: 'websocket',
    },
    new Handshake(call, upgrading, key),
  );
}

class Handshake extends AnswerRelay {
  readonly #call: ForwardCall;
  readonly #upgrading: Upgrading;
  readonly #key: string;
  readonly #settle: () => void;

  constructor(call: ForwardCall, upgrading: Upgrading, key: string) {
    super(call);
    this.#call = call;
    this.#upgrading = upgrading;
    this.#key = key;
    this.#settle = listenForSilence(call, upgrading.socket);
  }

  override onResponseStart(controller: unknown, status: number, headers: readonly string[]): void {
    if (status >= 200) this.#settle();
    super.onResponseStart(controller, status, headers);
  }

  override onResponseError(error: Error): void {
    this.#settle();
    super.onResponseError(error);
  }

  onRequestUpgrade(
    _controller: unknown,
    status: number,
    answer: readonly string[],
    upstream: Duplex,
  ): void {
    const { exchange } = this.#call;
    this.#settle();
    const target = exchange.targetText;
    if (status !== 101 || !acceptsHandshake(answer, this.#key)) {
      upstream.destroy();
      exchange.cut(new Refused('upstream_malformed', { target }));
    } else if (exchange.ended) upstream.destroy();
    else this.#connect(answer, upstream);
  }

  #connect(answer: readonly string[], upstream: Duplex): void {
    const { exchange } = this.#call;
    const { socket, detach, idleTimeoutMs } = this.#upgrading;
    detach();
    exchange.onCut(() => {
      socket.destroy();
      upstream.destroy();
    });
    socket.setTimeout(idleTimeoutMs, () => exchange.cut(new Refused('idle_timeout')));
    socket.write(switchingProtocols(returnedHeaders(answer)), 'latin1');
    void splice({ ...this.#call, socket }, upstream, Buffer.alloc(0), { status: 101 });
  }
}

/**
 * Until the answer is there a program has nothing more to say (RFC 6455, 4.1): a byte more is another request that hopes to pass for what
 * follows a handshake. Returns what ends the watch.
 */
function listenForSilence({ exchange }: ForwardCall, socket: Socket): () => void {
  const speaks = (): void => exchange.cut(new Refused('upgrade_with_body'));
  const leaves = (): void => exchange.cut(new Refused('client_gone'));
  socket.on('data', speaks).on('end', leaves).resume();
  return () => {
    socket.off('data', speaks).off('end', leaves).pause();
  };
}
