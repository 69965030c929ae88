import { connect } from 'node:net';
import type { Reply } from './steps.ts';

const PATIENCE_MS = 10_000;

/** Sends a request with `Connection: close` to a socket of the proxy itself, as a sidecar would, and resolves to all that came back. */
export function callProxy(socketPath: string, bytes: Buffer): Promise<Reply> {
  return new Promise((resolve) => {
    const began = performance.now();
    const pieces: Buffer[] = [];
    const line = connect(socketPath, () => line.write(bytes));
    const done = (eof: boolean, error: string | null = null): void => {
      line.destroy();
      resolve(replyOf(Buffer.concat(pieces), { ms: performance.now() - began, eof, error }));
    };
    line.setTimeout(PATIENCE_MS, () => done(false, 'timeout'));
    line.on('data', (piece) => void pieces.push(piece));
    line.once('end', () => done(true));
    line.once('error', ({ message }) => done(true, message));
  });
}

function replyOf(data: Buffer, seen: Pick<Reply, 'ms' | 'eof' | 'error'>): Reply {
  const { length } = data;
  return {
    id: 0,
    opened: null,
    reply: null,
    tls: null,
    length,
    ...seen,
    data: data.toString('base64'),
  };
}
