import { type OnReadOpts, Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { OutriderError } from '#core/errors';

/** What one read takes at most: at bulk fewer, larger ones cost less, and memory that nothing was read into costs nothing. */
const READ_BYTES = 256 * 1_024;

/** What `pour` does with bytes: whether more may come now, and whether the kernel has taken all of them. */
interface Passed {
  readonly goesOn: boolean;
  readonly taken: boolean;
}

/** Sockets that no stream is made of any more, and who gets their bytes. */
const pours = new WeakMap<Socket, (bytes: Buffer) => Passed>();

/** Where the socket that was just read from reads next; undefined for memory of its own, which a new socket gets, too. */
let next: Uint8Array | undefined;

/**
 * How the sockets to the proxy read: each again and again into the same memory, from which a stream gets copies of the right size, and
 * `pour` passes bytes on as they are. Node itself makes 64 KiB anew for each read. For `net.connect`, which asks for the memory of the
 * next read right after each.
 */
export const intoOwnMemory: OnReadOpts = {
  buffer() {
    const memory = next ?? Buffer.allocUnsafeSlow(READ_BYTES);
    next = undefined;
    return memory;
  },
  callback(this: unknown, count: number, memory: Uint8Array): boolean {
    if (!(this instanceof Socket)) return false;
    const bytes = Buffer.from(memory.buffer, memory.byteOffset, count);
    const pass = pours.get(this);
    const { goesOn, taken } = pass?.(bytes) ?? {
      goesOn: this.push(Buffer.from(bytes)),
      taken: true,
    };
    // What the kernel has not taken yet is still to be written from there.
    next = taken ? memory : undefined;
    return goesOn;
  },
};

/**
 * Passes everything that `from` reads from now on to `to`, and its end; the slower side sets the pace. `onBytes` is told how many bytes
 * before they are passed on. Only for sockets that read as `intoOwnMemory` says.
 */
export function pour(from: Duplex, to: Duplex, onBytes: (count: number) => void): void {
  if (!(from instanceof Socket)) throw new OutriderError('INTERNAL', 'not a socket to the proxy');
  const pass = (bytes: Buffer): Passed => {
    onBytes(bytes.length);
    if (to.destroyed) return { goesOn: false, taken: true };
    const goesOn = to.write(bytes);
    return { goesOn, taken: to.writableLength === 0 };
  };
  pours.set(from, pass);
  to.on('drain', () => from.resume());
  from.once('end', () => to.end());
  // What the stream has already, such as bytes behind the head of an answer.
  for (let chunk: unknown = from.read(); Buffer.isBuffer(chunk); chunk = from.read()) pass(chunk);
  from.resume();
}
