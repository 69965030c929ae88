import { closeSync, constants, ftruncateSync, openSync, writeSync } from 'node:fs';
import { type AuditHead, type AuditSink, hashLine } from '#core/audit';
import { OutriderError } from '#core/errors';

/** Records that no request causes (`start`, `end`, a summary) stand beyond the capacity. */
const HEADROOM = 64;

/**
 * The audit records of one attachment that the proxy has not acknowledged, in order. A request must `reserve` the place of its
 * record before anything of it leaves, so that what has been let out can always be recorded.
 */
export class Spool implements AuditSink {
  readonly #capacity: number;
  readonly #file: SpoolFile | undefined;
  #lines: string[] = [];
  #first = 0;
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
    return this.#lines.length;
  }

  /** Whether the next record would have no place, or the file could not be written. */
  get full(): boolean {
    return this.#lines.length + this.#reserved >= this.#capacity || this.#file?.broken === true;
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
    if (this.#lines.length >= this.#capacity + HEADROOM)
      throw new OutriderError('AUDIT_UNAVAILABLE', 'the audit spool is full');
    this.#lines.push(line);
    this.#file?.append(line);
  }

  /** The oldest `max` lines. */
  oldest(max = Number.POSITIVE_INFINITY): readonly string[] {
    return this.#lines.slice(0, Math.min(max, this.#lines.length));
  }

  /** Forgets the lines up to `head`; false, and nothing forgotten, where `head` is not one of ours. */
  acknowledge(head: AuditHead, writer: string): boolean {
    const index = head.seq - this.#first;
    if (head.writer !== writer || index < 0) return false;
    const line = this.#lines[index];
    if (line === undefined || hashLine(line) !== head.hash) return false;
    this.#lines.splice(0, index + 1);
    this.#first = head.seq + 1;
    if (this.#lines.length === 0) this.#file?.clear();
    return true;
  }

  close(): void {
    this.#file?.close();
  }
}

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

  append(line: string): void {
    if (this.#fd < 0) return;
    const bytes = Buffer.from(`${line}\n`, 'utf8');
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
