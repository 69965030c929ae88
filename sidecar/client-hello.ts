import type { Socket } from 'node:net';
import { afterTime } from '#core/http1/after-time';
import { helloRefusal, readClientHello, type TunnelTarget } from '#policies';
import { Refused } from './refusal.ts';

/** No client that we know sends more; what is longer is not looked at further. */
const HELLO_MAX_BYTES = 16_384;

/**
 * Reads a TLS hello from the start of a tunnel and resolves to its bytes, to be sent on as they are; the socket is then paused.
 * @throws {Refused} protocol_mismatch, sni_missing, sni_mismatch, ech_unsupported, tls_peek_timeout, client_gone
 */
export function expectHello(
  socket: Socket,
  head: Buffer,
  target: TunnelTarget,
  timeoutMs: number,
): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    let bytes = head;
    const inTime = afterTime(timeoutMs, () => done(new Refused('tls_peek_timeout')));
    const onData = (chunk: Buffer): void => {
      bytes = bytes.length === 0 ? chunk : Buffer.concat([bytes, chunk]);
      look();
    };
    const onGone = (): void =>
      done(new Refused(bytes.length === 0 ? 'client_gone' : 'protocol_mismatch'));
    const done = (refused?: Refused): void => {
      inTime();
      socket.pause();
      socket.off('data', onData).off('end', onGone).off('close', onGone);
      if (refused) reject(refused);
      else resolve(bytes);
    };
    const look = (): void => {
      const verdict = verdictOf(bytes, target);
      if (verdict !== 'more') done(verdict === 'agrees' ? undefined : verdict);
    };
    socket.on('data', onData).once('end', onGone).once('close', onGone);
    socket.resume();
    if (bytes.length > 0) look();
  });
}

function verdictOf(bytes: Buffer, target: TunnelTarget): 'more' | 'agrees' | Refused {
  const hello = readClientHello(bytes.subarray(0, HELLO_MAX_BYTES));
  if (hello.state === 'invalid') return new Refused(hello.reason);
  if (hello.state === 'more')
    return bytes.length < HELLO_MAX_BYTES ? 'more' : new Refused('protocol_mismatch');
  const reason = helloRefusal(target, hello);
  return reason === undefined ? 'agrees' : new Refused(reason);
}
