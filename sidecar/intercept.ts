import type { Socket } from 'node:net';
import { TLSSocket } from 'node:tls';
import { afterTime } from '#core/http1/after-time';
import type { TunnelTarget } from '#policies';
import { expectHello } from './client-hello.ts';
import type { Exchange } from './exchange.ts';
import { Refused } from './refusal.ts';
import type { SandboxAuthority } from './tls/authority.ts';

/** One allowed connection whose rule looks at requests, and what ending its TLS here needs. */
export interface InterceptCall {
  readonly exchange: Exchange;
  readonly socket: Socket;
  /** Bytes that came with the wish for it. */
  readonly head: Buffer;
  readonly target: TunnelTarget;
  /** What says yes. */
  readonly accept: Buffer;
  readonly authority: SandboxAuthority;
  /** Whether a rule for the host speaks HTTP/2, so that it is offered. */
  readonly http2: boolean;
  readonly helloTimeoutMs: number;
}

/**
 * Says yes to the program and ends its TLS here, as the host that it asked for: the hello must name that host before a byte is
 * answered, and nothing is sent to the proxy. Resolves to what the program says inside. Whatever fails has had its yes already, so
 * that the caller can only end the connection.
 * @throws {Refused} protocol_mismatch, sni_missing, sni_mismatch, ech_unsupported, tls_peek_timeout, tls_error, client_gone
 */
export async function intercept(call: InterceptCall): Promise<TLSSocket> {
  const { exchange, socket, head, target, accept, authority, http2, helloTimeoutMs } = call;
  exchange.onCut(() => socket.destroy());
  socket.write(accept);
  const hello = await expectHello(socket, head, target, helloTimeoutMs);
  socket.unshift(hello);
  const secure = new TLSSocket(socket, {
    isServer: true,
    secureContext: authority.contextFor(target.host.text),
    // A program that speaks HTTP/1.0 on purpose (curl --http1.0) offers nothing else, and is served in plain, too.
    ALPNProtocols: [...(http2 ? ['h2'] : []), 'http/1.1', 'http/1.0'],
  });
  exchange.onCut(() => secure.destroy());
  await handshake(secure, helloTimeoutMs);
  // Without a tls.Server around it nobody says so, and HTTP/2 would wait for it.
  Reflect.set(secure, 'secureConnecting', false);
  return secure;
}

function handshake(secure: TLSSocket, timeoutMs: number): Promise<void> {
  return new Promise((resolve, reject) => {
    const inTime = afterTime(timeoutMs, () => done(new Refused('tls_peek_timeout')));
    const onError = (cause: Error): void => done(new Refused('tls_error', { cause }));
    // A client that only ends its side will not finish the handshake either.
    const onClose = (): void => done(new Refused('client_gone'));
    const onSecure = (): void => done();
    const done = (refused?: Refused): void => {
      inTime();
      secure.off('close', onClose).off('end', onClose).off('secure', onSecure);
      if (refused) reject(refused);
      else resolve();
      secure.off('error', onError);
      secure.on('error', () => {}); // whoever serves it hears of its end by `close`
    };
    secure.on('error', onError).on('close', onClose).on('end', onClose).on('secure', onSecure);
  });
}
