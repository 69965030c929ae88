import { type OnReadOpts, Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { OutriderError } from '#core/errors';

/** What one read takes at most: at bulk fewer, larger ones cost less, and memory that nothing was read into costs nothing. */
const READ_BYTES = 256 * 1_024;

/** Sockets that no stream is made of any more, and who gets their bytes and the memory of these; whether more may come now. */
const pours = new WeakMap<Socket, (bytes: Buffer, memory: Uint8Array) => boolean>();

/** Where the next reads go; where there is none, into memory of their own, which a new socket gets, too. */
const spare: Uint8Array[] = [];
const SPARE_MAX = 4;

function giveBack(memory: Uint8Array): void {
  if (spare.length < SPARE_MAX) spare.push(memory);
}

/**
 * How the sockets to the proxy read: again and again into the same memory, from which a stream gets copies of the right size, and
 * `pour` passes bytes on as they are. Node itself makes 64 KiB anew for each read. For `net.connect`, which asks for the memory of the
 * next read right after each.
 */
export const intoOwnMemory: OnReadOpts = {
  buffer: () => spare.pop() ?? Buffer.allocUnsafeSlow(READ_BYTES),
  callback(this: unknown, count: number, memory: Uint8Array): boolean {
    if (!(this instanceof Socket)) return false;
    const bytes = Buffer.from(memory.buffer, memory.byteOffset, count);
    const pass = pours.get(this);
    if (pass) return pass(bytes, memory);
    const goesOn = this.push(Buffer.from(bytes));
    giveBack(memory);
    return goesOn;
  },
};

/**
 * Passes everything that `from` reads from now on to `to`, and its end; the slower side sets the pace. `onBytes` sees all before it is
 * passed on, may not keep it, and keeps it from going on where it destroys `to`. Only for sockets that read as `intoOwnMemory` says.
 */
export function pour(from: Duplex, to: Duplex, onBytes: (bytes: Buffer) => void): void {
  if (!(from instanceof Socket)) throw new OutriderError('INTERNAL', 'not a socket to the proxy');
  /** What the kernel has not taken all of yet: it is still to be written from there. */
  const written: Uint8Array[] = [];
  const pass = (bytes: Buffer, memory?: Uint8Array): boolean => {
    onBytes(bytes);
    if (to.destroyed) return false;
    const goesOn = to.write(bytes);
    if (memory && to.writableLength === 0) giveBack(memory);
    else if (memory && !goesOn) written.push(memory);
    return goesOn;
  };
  pours.set(from, pass);
  to.on('drain', () => {
    for (const memory of written.splice(0)) giveBack(memory);
    from.resume();
  });
  from.once('end', () => to.end());
  // What the stream has already, such as bytes behind the head of an answer.
  for (let chunk: unknown = from.read(); Buffer.isBuffer(chunk); chunk = from.read()) pass(chunk);
  from.resume();
}
