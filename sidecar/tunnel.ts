import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import type { Http1Handler } from '#core/http1/client';
import { type TunnelTarget, targetAuthority } from '#policies';
import type { Binding, Grant } from './binding.ts';
import { expectHello } from './client-hello.ts';
import { type Exchange, outcomeOfAnswer } from './exchange.ts';
import { linkFailure } from './forward.ts';
import { headerOf } from './framing.ts';
import { pour } from './pour.ts';
import { Refused, toRefused } from './refusal.ts';
import { TlsRecords } from './tls-records.ts';

/** One allowed tunnel and everything that opening it needs. */
export interface TunnelCall {
  readonly exchange: Exchange;
  readonly socket: Socket;
  /** Bytes that came with the wish for it. */
  readonly head: Buffer;
  readonly target: TunnelTarget;
  /** What says yes. */
  readonly accept: Buffer;
  readonly grant: Grant;
  readonly binding: Binding;
  readonly helloTimeoutMs: number;
  readonly idleTimeoutMs: number;
  readonly now: () => number;
}

/**
 * Opens a tunnel: says yes to the program, reads its TLS hello, and only when that names the host of the CONNECT asks the
 * proxy for a connection and splices the two. Nothing is sent to the proxy before, and nothing but TLS records goes either way after. Resolves
 * when the tunnel has ended.
 */
export async function tunnel(call: TunnelCall): Promise<void> {
  const { exchange, socket, head, target, accept, helloTimeoutMs, idleTimeoutMs } = call;
  exchange.onCut(() => socket.destroy());
  try {
    socket.write(accept);
    const hello = await expectHello(socket, head, target, helloTimeoutMs);
    if (exchange.ended) return;
    const upstream = await dial(call);
    exchange.onCut(() => {
      socket.destroy();
      upstream.destroy();
    });
    if (socket.destroyed) exchange.refuse(new Refused('client_gone'));
    if (exchange.ended) {
      upstream.destroy();
      return;
    }
    socket.setTimeout(idleTimeoutMs, () => exchange.cut(new Refused('idle_timeout')));
    const records = { program: new TlsRecords(), upstream: new TlsRecords() };
    if (!records.program.take(hello)) throw new Refused('protocol_mismatch');
    await splice(call, upstream, hello, { isSound: (side, bytes) => records[side].take(bytes) });
  } catch (thrown) {
    // The program was told 200 already: all that is left is to end the connection.
    exchange.refuse(toRefused(thrown));
    socket.destroy();
  }
}

/** A connection through the proxy. @throws {Refused} with the proxy's reason where it gave one */
function dial({ exchange, target, binding, now }: TunnelCall): Promise<Duplex> {
  const authority = targetAuthority(target);
  const headers = ['host', authority, 'x-request-id', exchange.requestId];
  headers.push('proxy-authorization', `Bearer ${binding.token(now())}`);
  return new Promise((resolve, reject) => {
    const handler: Http1Handler = {
      onRequestStart(controller) {
        exchange.onCut((refused) => controller.abort(refused));
        if (exchange.ended) controller.abort(new Refused('client_gone'));
      },
      onRequestUpgrade(_controller, status, answer, upstream) {
        if (status === 200) {
          resolve(upstream);
          return;
        }
        upstream.destroy();
        exchange.end(outcomeOfAnswer(status, (name) => headerOf(answer, name)));
        reject(new Refused('upstream_unreachable'));
      },
      onResponseError(error) {
        reject(linkFailure(error, authority));
      },
    };
    exchange.forwarded = true;
    binding.pool.dispatch({ method: 'CONNECT', path: authority, headers }, handler);
  });
}

/** What a splice is to end with, and to look at. */
interface SpliceOptions {
  readonly status?: number;
  /** Whether the next bytes from there may go on; those that may not end the tunnel. */
  readonly isSound?: (from: 'program' | 'upstream', bytes: Buffer) => boolean;
}

/** Connects the two ends within the limits of the grant, and ends the exchange with `status` when both are closed. `first` goes out before all. */
export function splice(
  { exchange, socket, grant }: Pick<TunnelCall, 'exchange' | 'socket' | 'grant'>,
  upstream: Duplex,
  first: Buffer,
  { status = 200, isSound = () => true }: SpliceOptions = {},
): Promise<void> {
  const { requestBytes = Infinity, responseBytes = Infinity } = grant.limits;
  return new Promise((resolve) => {
    let open = 2;
    const closed = (other: Duplex): void => {
      open -= 1;
      // What has been read is still to be written; `end` lets it.
      if (open === 1) other.end(() => other.destroy());
      else {
        exchange.end({ verdict: 'allow', status });
        resolve();
      }
    };
    const failed = (): void => {
      socket.destroy();
      upstream.destroy();
    };
    socket.on('error', failed).once('close', () => closed(upstream));
    upstream.on('error', failed).once('close', () => closed(socket));
    // Before the pipe hears of it: what is cut here goes nowhere.
    socket.on('data', (chunk: Buffer) => {
      if (!isSound('program', chunk)) return exchange.cut(new Refused('protocol_mismatch'));
      exchange.bytesOut += chunk.length;
      if (exchange.bytesOut > requestBytes) exchange.cut(new Refused('body_too_large'));
    });
    exchange.bytesOut += first.length;
    if (first.length > 0) upstream.write(first);
    socket.pipe(upstream);
    pour(upstream, socket, (chunk) => {
      if (!isSound('upstream', chunk)) return exchange.cut(new Refused('protocol_mismatch'));
      exchange.bytesIn += chunk.length;
      if (exchange.bytesIn > responseBytes) exchange.cut(new Refused('body_too_large'));
    });
  });
}
