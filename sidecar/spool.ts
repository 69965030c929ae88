import { closeSync, constants, ftruncateSync, openSync, writeSync } from 'node:fs';
import { type AuditHead, type AuditSink, hashLine } from '#core/audit';
import { OutriderError } from '#core/errors';

/** Records that no request causes (`start`, `end`, a summary) stand beyond the capacity. */
const HEADROOM = 64;
/** Bytes of lines that are kept, and delivered, together. Memory that nothing was written to yet costs nothing. */
const SLAB_BYTES = 256 * 1_024;

/**
 * The audit records of one attachment that the proxy has not acknowledged, in order. A request must `reserve` the place of its
 * record before anything of it leaves, so that what has been let out can always be recorded.
 *
 * Lines are kept as the bytes that are delivered: as strings each would be copied by several garbage collections before it may go.
 */
export class Spool implements AuditSink {
  readonly #capacity: number;
  readonly #file: SpoolFile | undefined;
  readonly #slabs: Slab[] = [];
  #first = 0;
  #pending = 0;
  #reserved = 0;

  /**
   * `capacity` in records. With `path`, a file that is there already, the lines also stand in that file until all of them are
   * acknowledged: they outlive the process.
   * @throws {OutriderError} INVALID_REQUEST where the file cannot be opened
   */
  constructor(capacity: number, path?: string) {
    this.#capacity = capacity;
    this.#file = path === undefined ? undefined : new SpoolFile(path);
  }

  /** The number in the chain of the first that is pending, or of the next. */
  get first(): number {
    return this.#first;
  }

  get pending(): number {
    return this.#pending;
  }

  /** Whether the next record would have no place, or the file could not be written. */
  get full(): boolean {
    return this.#pending + this.#reserved >= this.#capacity || this.#file?.broken === true;
  }

  /** Takes the place of one record; false where there is none. */
  reserve(): boolean {
    if (this.full) return false;
    this.#reserved += 1;
    return true;
  }

  /** Gives a reserved place back, just before its record is appended. */
  release(): void {
    this.#reserved -= 1;
  }

  append(line: string): void {
    if (this.#pending >= this.#capacity + HEADROOM)
      throw new OutriderError('AUDIT_UNAVAILABLE', 'the audit spool is full');
    // In UTF-8 a character has at most three bytes for each unit of its string.
    const bytesMax = line.length * 3 + 1;
    let slab = this.#slabs.at(-1);
    if (!slab?.hasRoom(bytesMax)) {
      slab = new Slab(Math.max(SLAB_BYTES, bytesMax));
      this.#slabs.push(slab);
    }
    const bytes = slab.append(line);
    this.#pending += 1;
    this.#file?.append(bytes);
  }

  /** The oldest lines, each with its line feed, as many as are kept together; undefined where nothing is pending. */
  batch(): Buffer | undefined {
    return this.#slabs.find((slab) => slab.pending > 0)?.bytes();
  }

  /** Every line. */
  lines(): readonly string[] {
    const text = this.#slabs.map((slab) => slab.bytes().toString('utf8')).join('');
    return text.split('\n').slice(0, -1);
  }

  /** Forgets the lines up to `head`; false, and nothing forgotten, where `head` is not one of ours. */
  acknowledge(head: AuditHead, writer: string): boolean {
    let count = head.seq - this.#first + 1;
    if (head.writer !== writer || count < 1 || count > this.#pending) return false;
    let found = 0;
    while ((this.#slabs[found]?.pending ?? count) < count)
      count -= this.#slabs[found++]?.pending ?? 0;
    const slab = this.#slabs[found];
    if (slab === undefined || hashLine(slab.line(count - 1)) !== head.hash) return false;
    slab.drop(count);
    this.#slabs.splice(0, slab.pending === 0 ? found + 1 : found);
    this.#pending -= head.seq - this.#first + 1;
    this.#first = head.seq + 1;
    if (this.#pending === 0) this.#file?.clear();
    return true;
  }

  close(): void {
    this.#file?.close();
  }
}

/** Lines one behind the other. What has been written stays as it is: it may be on its way to the proxy. */
class Slab {
  readonly #memory: Buffer;
  /** Where each line that is pending ends, behind its line feed. */
  readonly #ends: number[] = [];
  #from = 0;
  #to = 0;

  constructor(size: number) {
    this.#memory = Buffer.allocUnsafeSlow(size);
  }

  get pending(): number {
    return this.#ends.length;
  }

  hasRoom(bytes: number): boolean {
    return this.#memory.length - this.#to >= bytes;
  }

  /** Returns the bytes of the line, with its line feed. */
  append(line: string): Buffer {
    const from = this.#to;
    this.#to += this.#memory.write(line, from, 'utf8');
    this.#memory[this.#to++] = LINE_FEED;
    this.#ends.push(this.#to);
    return this.#memory.subarray(from, this.#to);
  }

  /** Everything that is pending. */
  bytes(): Buffer {
    return this.#memory.subarray(this.#from, this.#to);
  }

  /** Without its line feed. */
  line(index: number): string {
    const from = index === 0 ? this.#from : this.#ends[index - 1];
    return this.#memory.toString('utf8', from, (this.#ends[index] ?? 0) - 1);
  }

  /** Forgets the oldest. */
  drop(count: number): void {
    this.#from = this.#ends[count - 1] ?? this.#from;
    this.#ends.splice(0, count);
  }
}

const LINE_FEED = 0x0a;

/** What has failed once refuses traffic until the spool is empty again; the lines are in memory all the same. */
class SpoolFile {
  broken = false;
  #fd: number;

  constructor(path: string) {
    try {
      this.#fd = openSync(path, constants.O_WRONLY | constants.O_APPEND | constants.O_NOFOLLOW);
    } catch (error) {
      throw new OutriderError('INVALID_REQUEST', 'the spool file cannot be opened', {
        cause: error,
      });
    }
  }

  append(bytes: Buffer): void {
    if (this.#fd < 0) return;
    try {
      for (let at = 0; at < bytes.length; ) at += writeSync(this.#fd, bytes, at);
    } catch {
      this.broken = true;
    }
  }

  clear(): void {
    if (this.#fd < 0) return;
    try {
      ftruncateSync(this.#fd, 0);
      this.broken = false;
    } catch {
      this.broken = true;
    }
  }

  close(): void {
    if (this.#fd >= 0) closeSync(this.#fd);
    this.#fd = -1;
  }
}
