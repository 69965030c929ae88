import {
  closeSync,
  fstatSync,
  fsyncSync,
  ftruncateSync,
  mkdirSync,
  openSync,
  readSync,
  renameSync,
  rmSync,
  statSync,
  truncateSync,
  writeSync,
} from 'node:fs';
import { dirname } from 'node:path';
import {
  type AuditHead,
  type AuditSink,
  type AuditTurn,
  hashLine,
  readLine,
} from './audit-line.ts';
import { fileNumber, rotatedFiles, rotatedPath } from './audit-series.ts';
import { AuditSlots } from './audit-slots.ts';

/** When a file is full, and how many of a series are kept, the current one included. */
export interface AuditRotation {
  readonly maxBytes: number;
  readonly files: number;
}

/** A few records: of smaller files almost nothing would be kept. */
export const AUDIT_LEAST_BYTES = 1_024;

export const AUDIT_ROTATION: AuditRotation = { maxBytes: 10 * 1_048_576, files: 5 };

/** A file that could not be renamed grows on; this much later it is tried again. */
const RETRY_BYTES = 1_048_576;
/** How long records may go on into a file that somebody has removed. */
const LOOK_EVERY_MS = 1_000;

/**
 * A file of records, one a line, mode 0600, only ever appended to. A record is safe from the end of this process when `append`
 * returns, and from a power cut at the next `flush`, which comes with every checkpoint. A last line that a crash cut short is ended
 * first, and stays for `outrider audit verify` to report.
 *
 * `audit.jsonl` that is full becomes `audit.000001.jsonl`, and so on; of the series the newest are kept. Where this user may not rename
 * it, or the disk has no room for another file, the file grows on: no record is lost for the sake of the rotation. One that somebody
 * removes or puts elsewhere is followed by another within a second, as a full one is, and is missed by `outrider audit verify`. With `slots`
 * it is made for a process that will not be allowed to rename anything: see `AuditSlots`.
 */
export class AuditFile implements AuditSink {
  readonly previous: AuditHead | undefined;
  readonly #path: string;
  readonly #rotation: AuditRotation;
  #fd: number;
  #size: number;
  /** The number that this file will have. */
  #number: number;
  #turnAt: number;
  #slots: AuditSlots | undefined;
  #lookedAtMs = performance.now();

  constructor(path: string, rotation = AUDIT_ROTATION, options: { slots?: boolean } = {}) {
    this.#path = path;
    this.#rotation = rotation;
    this.#turnAt = rotation.maxBytes;
    mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
    this.#fd = openSync(path, 'a+', 0o600);
    dropCopy(path);
    const before = rotatedFiles(path).at(-1);
    const tail = readTail(this.#fd);
    this.#size = endLastLine(this.#fd);
    const said = this.#size > 0 ? fileNumber(path) : undefined;
    this.#number = said ?? (before?.number ?? 0) + 1;
    this.previous = lastHead(tail) ?? (before && lastHeadOf(before.path));
    if (options.slots !== true) return;
    // One of which nothing was ever made room for may be of any size: it is renamed while that is allowed, not copied while others wait.
    if (this.#size > rotation.maxBytes) this.#rotate();
    this.#slots = AuditSlots.open(path, rotation.files - 1);
  }

  append(line: string): void {
    const bytes = Buffer.from(`${line}\n`, 'utf8');
    let at = 0;
    try {
      while (at < bytes.length) at += writeSync(this.#fd, bytes, at);
    } catch (error) {
      // A full disk may take half a line; the next record must not be glued to it.
      if (at > 0) ftruncateSync(this.#fd, this.#size);
      throw error;
    }
    this.#size += bytes.length;
  }

  turn(bytes: number): AuditTurn | undefined {
    if (this.#isGone()) this.#replace();
    if (this.#size > 0 && this.#size + bytes > this.#turnAt) this.#rotate();
    // Also where an earlier process got no further than the renaming.
    return this.#size === 0 && this.#number > 1
      ? { file: this.#number, keeps: this.#rotation.files }
      : undefined;
  }

  flush(): void {
    fsyncSync(this.#fd);
  }

  close(): void {
    fsyncSync(this.#fd);
    closeSync(this.#fd);
    this.#slots?.close();
  }

  #rotate(): void {
    fsyncSync(this.#fd);
    const next = this.#slots ? this.#emptied(this.#slots) : this.#renew();
    if (next === undefined) {
      this.#turnAt = this.#size + RETRY_BYTES;
      return;
    }
    if (next !== this.#fd) closeSync(this.#fd);
    this.#fd = next;
    this.#number += 1;
    this.#size = 0;
    this.#turnAt = this.#rotation.maxBytes;
    if (this.#slots) return;
    const kept = this.#rotation.files - 1;
    for (const { path } of rotatedFiles(this.#path).slice(0, -kept || undefined))
      rmSync(path, { force: true });
  }

  /** Whether what is written would be found nowhere: another file, or none, has its name. */
  #isGone(): boolean {
    const nowMs = performance.now();
    if (this.#slots || nowMs - this.#lookedAtMs < LOOK_EVERY_MS) return false;
    const isThere = isAt(this.#path, this.#fd);
    // One that cannot be replaced is looked for with each record.
    if (isThere) this.#lookedAtMs = nowMs;
    return !isThere;
  }

  #replace(): void {
    const next = openSync(this.#path, 'a+', 0o600);
    closeSync(this.#fd);
    this.#fd = next;
    this.#number += 1;
    this.#size = endLastLine(next);
    this.#turnAt = this.#rotation.maxBytes;
  }

  #emptied(slots: AuditSlots): number | undefined {
    return slots.take(this.#fd) ? this.#fd : undefined;
  }

  /** The descriptor of a new file in place of the full one, which stays open and in its place where there can be none. */
  #renew(): number | undefined {
    const full = rotatedPath(this.#path, this.#number);
    try {
      renameSync(this.#path, full);
    } catch {
      return undefined;
    }
    try {
      return openSync(this.#path, 'a+', 0o600);
    } catch {
      renameSync(full, this.#path);
      return undefined;
    }
  }
}

/** A process that was killed while it copied a full file has left both, or a part of the copy. */
function dropCopy(path: string): void {
  const full = rotatedFiles(path);
  if (full.length === 0) return; // also where it is a pipe, which has no begin to read
  const begin = beginOf(path);
  if (begin.length === 0) return;
  for (const file of full) {
    const other = beginOf(file.path);
    // Every record has a number and a writer of its own: two files never begin alike.
    if (begin.subarray(0, other.length).equals(other)) truncateSync(file.path, 0);
  }
}

function beginOf(path: string): Buffer {
  const fd = openSync(path, 'r');
  try {
    const begin = Buffer.alloc(65_536);
    return begin.subarray(0, readSync(fd, begin, 0, begin.length, 0));
  } finally {
    closeSync(fd);
  }
}

/** Whether a file has this name; also where this user may not look. */
function isAt(path: string, fd: number): boolean {
  try {
    const there = statSync(path, { throwIfNoEntry: false });
    const { dev, ino } = fstatSync(fd);
    return there?.dev === dev && there.ino === ino;
  } catch {
    return true;
  }
}

/** Ends a line that was cut short; the size of the file then. */
function endLastLine(fd: number): number {
  const tail = readTail(fd);
  if (tail !== '' && !tail.endsWith('\n')) writeSync(fd, '\n');
  return fstatSync(fd).size;
}

function lastHeadOf(path: string): AuditHead | undefined {
  const fd = openSync(path, 'r');
  try {
    return lastHead(readTail(fd));
  } finally {
    closeSync(fd);
  }
}

/** The last 64 KiB, which hold the last line: records are far smaller. */
function readTail(fd: number): string {
  const size = fstatSync(fd).size;
  const length = Math.min(size, 65_536);
  const buffer = Buffer.alloc(length);
  readSync(fd, buffer, 0, length, size - length);
  return buffer.toString('utf8');
}

function lastHead(tail: string): AuditHead | undefined {
  for (const line of tail.split('\n').toReversed()) {
    const entry = readLine(line);
    if (entry) return { writer: entry.writer, seq: entry.seq, hash: hashLine(line) };
  }
  return undefined;
}
