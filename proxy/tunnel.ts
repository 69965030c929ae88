import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import {
  CLIENT_HELLO_MAX,
  helloRefusal,
  REASONS,
  type Reason,
  readClientHello,
  type TunnelTarget,
} from '#policies';
import { covering } from './covering.ts';
import type { RedactionStream } from './redaction.ts';
import { refused } from './refusal.ts';

const HELLO_TIMEOUT_MS = 10_000;
/** How long a caller may take to read what was sent before the other side closed. */
const LAST_BYTES_MS = 5_000;

/**
 * The bytes up to the end of the caller's TLS ClientHello, whose server name must be the target's host. They are read, never changed.
 * @throws {OutriderError} EGRESS_DENIED (sni_missing, sni_mismatch, ech_unsupported, protocol_mismatch, tls_peek_timeout), CANCELLED
 */
export function readHelloFor(
  target: TunnelTarget,
  socket: Duplex,
  head: Buffer,
  timeoutMs = HELLO_TIMEOUT_MS,
): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    let bytes = head;
    const stop = (): void => {
      clearTimeout(timer);
      socket.off('data', onData).off('end', onEnd).off('close', onEnd);
      socket.pause();
    };
    const fail = (error: unknown): void => {
      stop();
      reject(error instanceof Error ? error : new Error('hello'));
    };
    const look = (): void => {
      const found = readClientHello(bytes);
      if (found.state === 'more') {
        if (bytes.length > CLIENT_HELLO_MAX) fail(denied('protocol_mismatch'));
        return;
      }
      const reason = found.state === 'hello' ? helloRefusal(target, found) : found.reason;
      if (reason) {
        fail(denied(reason));
        return;
      }
      stop();
      resolve(bytes);
    };
    const onData = (chunk: Buffer): void => {
      bytes = bytes.length === 0 ? chunk : Buffer.concat([bytes, chunk]);
      look();
    };
    const onEnd = (): void => fail(denied('protocol_mismatch'));
    const timer = setTimeout(() => fail(denied('tls_peek_timeout')), timeoutMs);
    socket.on('data', onData).on('end', onEnd).on('close', onEnd);
    if (bytes.length > 0) look();
  });
}

export interface Spliced {
  /** From the caller to the other side, and back. */
  readonly bytesIn: number;
  readonly bytesOut: number;
}

export interface SpliceBounds {
  /** Silence in both directions after which the tunnel is closed. */
  readonly idleMs: number;
  /** Told of every byte that the caller sent, or the other side did; may destroy the caller. */
  readonly onBytes?: (bytesIn: number, bytesOut: number) => void;
  /** Hides secrets in what the other side says. */
  readonly cover?: RedactionStream | undefined;
}

/** Connects the two ends until either closes; an end that is closed already counts. Never rejects. */
export function splice(
  caller: Duplex,
  upstream: Socket,
  first: Buffer,
  { idleMs, onBytes, cover }: SpliceBounds,
): Promise<Spliced> {
  return new Promise((resolve) => {
    let bytesIn = 0;
    let bytesOut = 0;
    const cut = (): void => {
      caller.destroy();
      upstream.destroy();
    };
    upstream.setTimeout(idleMs, cut);
    caller.on('error', cut).on('close', () => upstream.destroy());
    const said = cover ? upstream.pipe(covering(cover)) : upstream;
    upstream.on('error', cut).on('close', () => {
      if (!upstream.readableEnded) said.destroy();
    });
    said.on('close', () => {
      // What the other side sent last may still be on its way to the caller.
      caller.end();
      setTimeout(() => caller.destroy(), LAST_BYTES_MS).unref();
      resolve({ bytesIn, bytesOut });
    });
    caller.on('data', (chunk: Buffer) => {
      bytesIn += chunk.length;
      onBytes?.(bytesIn, bytesOut);
    });
    upstream.on('data', (chunk: Buffer) => {
      bytesOut += chunk.length;
      onBytes?.(bytesIn, bytesOut);
    });
    // Its `close` has been, and will not be again.
    if (caller.destroyed) {
      upstream.destroy();
      return;
    }
    bytesIn += first.length;
    if (first.length > 0) upstream.write(first);
    caller.pipe(upstream);
    said.pipe(caller);
  });
}

function denied(reason: Reason): Error {
  return refused('EGRESS_DENIED', REASONS[reason].text, reason);
}
