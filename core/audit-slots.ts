import {
  closeSync,
  fstatSync,
  fsyncSync,
  ftruncateSync,
  openSync,
  readSync,
  rmSync,
  writeSync,
} from 'node:fs';
import { numberedFiles, numberInName, rotatedFiles, rotatedPath } from './audit-series.ts';

const PIECE_BYTES = 262_144;

/**
 * The places of full files, open already: for a process that may neither rename nor make files later. A full file is copied into the
 * place that was used longest ago, so that the numbers in their names go round; which is which is said by the anchor in each. One
 * that has not been used yet is empty.
 */
export class AuditSlots {
  /** The one to be used next first. */
  readonly #fds: number[];

  private constructor(fds: number[]) {
    this.#fds = fds;
  }

  /** Opens `count` places for the series of `path`, and removes what is more than that. Throws what the file system does. */
  static open(path: string, count: number): AuditSlots {
    const full = rotatedFiles(path);
    const kept = full.slice(-count).map((file) => file.path);
    // Above every name and number that there is: nothing is overwritten.
    const last = Math.max(0, ...kept.map(numberInName), ...full.map(({ number }) => number));
    for (const file of numberedFiles(path)) if (!kept.includes(file)) rmSync(file);
    const fresh = Array.from({ length: count - kept.length }, (_, at) =>
      rotatedPath(path, last + 1 + at),
    );
    return new AuditSlots([
      ...fresh.map((file) => openSync(file, 'wx+', 0o600)),
      ...kept.map((file) => openSync(file, 'r+')),
    ]);
  }

  /**
   * Moves all of `fd` into a place. False where that cannot be, for want of room: then it stays as it is, and so does what is in the place.
   * A process that is killed meanwhile leaves a copy, which `AuditFile` knows by its number.
   */
  take(fd: number): boolean {
    const [slot] = this.#fds;
    if (slot === undefined || !hasRoom(slot, fstatSync(fd).size)) return false;
    try {
      ftruncateSync(slot, 0);
      copy(fd, slot);
      fsyncSync(slot);
    } catch {
      ftruncateSync(slot, 0);
      return false;
    }
    ftruncateSync(fd, 0);
    this.#fds.push(...this.#fds.splice(0, 1));
    return true;
  }

  close(): void {
    for (const fd of this.#fds) closeSync(fd);
  }
}

/** Whether what is in a place could be as large as that; it is found out with blank lines, which are no records. */
function hasRoom(slot: number, size: number): boolean {
  const before = fstatSync(slot).size;
  // What is not used yet has nothing to lose.
  if (before === 0 || before >= size) return true;
  const blank = Buffer.alloc(PIECE_BYTES, '\n');
  try {
    for (let at = before; at < size; )
      at += writeSync(slot, blank, 0, Math.min(PIECE_BYTES, size - at), at);
    return true;
  } catch {
    ftruncateSync(slot, before);
    return false;
  }
}

function copy(from: number, to: number): void {
  const piece = Buffer.alloc(PIECE_BYTES);
  let at = 0;
  for (let read = readSync(from, piece, 0, PIECE_BYTES, 0); read > 0; ) {
    let written = 0;
    while (written < read) written += writeSync(to, piece, written, read - written, at + written);
    at += read;
    read = readSync(from, piece, 0, PIECE_BYTES, at);
  }
}
