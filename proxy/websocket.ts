import { Socket } from 'node:net';
import { OutriderError } from '#core/errors';
import type { HttpRequest, HttpResponse } from '#core/http-exchange';
import { acceptsHandshake, handshakeKey, switchingProtocols } from '#core/websocket';
import { refusedTarget } from './answer.ts';
import { FieldCover } from './covering.ts';
import type { Outbound, Upgraded } from './forward.ts';
import { downstreamText, valuesOf } from './headers.ts';
import { answerTooLarge, requestTooLarge } from './places.ts';
import { malformed, refused } from './refusal.ts';
import { splice } from './tunnel.ts';

/** The caller's connection, which nobody reads requests from any more. */
export interface Upgrading {
  readonly socket: Socket;
  /** What came behind the request. */
  readonly head: Buffer;
  /** Takes it from the answer that it was given to. */
  readonly detach: () => void;
}

/**
 * What is wrong with a wish for a WebSocket is said before anything is decided or looked up.
 * @throws {OutriderError} INVALID_REQUEST: no complete handshake, or something said before its answer
 */
export function assertHandshake(request: HttpRequest, { head }: Upgrading): void {
  if (handshakeKey(request.rawHeaders) === undefined)
    throw refused(
      'INVALID_REQUEST',
      'the opening handshake of the WebSocket is not complete',
      'upgrade_not_allowed',
    );
  if (head.length > 0) throw refusedTarget('upgrade_with_body');
}

/**
 * A request that asks to go on as a WebSocket (RFC 6455). Only an answer to its own key connects the two ends; then their bytes are
 * counted, and those of the other side redacted, until either leaves. Any other answer is one like that of any request.
 */
export function asWebSocket(
  request: HttpRequest,
  response: HttpResponse,
  outbound: Outbound,
  { socket, detach }: Upgrading,
): Outbound {
  const key = handshakeKey(request.rawHeaders) ?? '';
  const { open } = outbound;
  const speaks = (): void => open.cut(refusedTarget('upgrade_with_body'));
  const leaves = (): void => open.cut(new OutriderError('CANCELLED', 'the caller gave up'));
  socket.on('data', speaks).on('end', leaves).resume();
  response.once('finish', () => socket.off('data', speaks).off('end', leaves));
  return {
    ...outbound,
    async carry({ rawHeaders, upstream, exchanged }) {
      socket.off('data', speaks).off('end', leaves).pause();
      if (!(upstream instanceof Socket)) throw malformed('not a connection');
      // With a credential none was offered: what is compressed cannot be searched for it.
      const packed =
        outbound.redactor && valuesOf(rawHeaders, 'sec-websocket-extensions').length > 0;
      if (exchanged.status !== 101 || packed || !acceptsHandshake(rawHeaders, key)) {
        upstream.destroy();
        throw malformed('no answer to the handshake');
      }
      detach();
      await connect(outbound, socket, { rawHeaders, upstream, exchanged });
    },
  };
}

async function connect(
  { open, anonymous, redactor, limits, rule, spend, idleMs }: Outbound,
  socket: Socket,
  { rawHeaders, upstream, exchanged }: Upgraded & { readonly upstream: Socket },
): Promise<void> {
  const { requestBytes = Infinity, responseBytes = Infinity } = limits;
  open.onCut(() => {
    socket.destroy();
    upstream.destroy();
  });
  const fields = new FieldCover(redactor);
  const head = downstreamText(rawHeaders, { status: 101, anonymous, cover: fields.coverAll });
  socket.write(switchingProtocols(head), 'latin1');
  const cover = redactor?.stream();
  let counted = 0;
  const spliced = await splice(socket, upstream, Buffer.alloc(0), {
    idleMs,
    cover,
    onBytes(bytesIn, bytesOut) {
      if (bytesIn > requestBytes) open.cut(requestTooLarge(rule));
      else if (bytesOut > responseBytes) open.cut(answerTooLarge(rule));
      const why = spend(bytesIn + bytesOut - counted);
      counted = bytesIn + bytesOut;
      if (why) open.cut(why);
    },
  });
  Object.assign(exchanged, spliced, { redactions: fields.found + (cover?.found ?? 0) });
  if (open.cutBy) throw open.cutBy;
}
