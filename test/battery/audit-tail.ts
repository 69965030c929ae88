import { closeSync, fstatSync, openSync, readSync, statSync } from 'node:fs';
import { rotatedFiles } from '#core/audit-series';
import { until } from '../support/mesh.ts';

/** A record is written in the turn after its request. */
const SOON_MS = 5;

export type AuditRecord = Readonly<Record<string, unknown>>;

/** A series of audit files that is read on from where it was read last, through each that was full and into the next. */
export class AuditTail {
  readonly #path: string;
  /** Of the file that is being read, wherever it has been renamed to. */
  #fd: number | undefined;
  #at = 0;
  #rest = Buffer.alloc(0);
  #records: AuditRecord[] = [];

  /** `path`: of the current file of the series. */
  constructor(path: string) {
    this.#path = path;
  }

  /** The records since the last time, up to the first that `isMarker`, which is not among them. */
  async upTo(what: string, isMarker: (record: AuditRecord) => boolean): Promise<AuditRecord[]> {
    let end = -1;
    const read = (): boolean => {
      this.#readOn();
      end = this.#records.findIndex(isMarker);
      return end !== -1;
    };
    await until(what, read, undefined, SOON_MS);
    return this.#records.splice(0, end + 1).slice(0, -1);
  }

  close(): void {
    if (this.#fd !== undefined) closeSync(this.#fd);
    this.#fd = undefined;
  }

  #readOn(): void {
    this.#fd ??= opened(this.#path);
    while (this.#fd !== undefined) {
      // Asked before the rest is read: to what has been renamed nothing is added.
      const next = this.#next(this.#fd);
      this.#readRest(this.#fd);
      if (next === undefined) return;
      this.close();
      this.#fd = next;
      this.#at = 0;
    }
  }

  /** The file behind this one; undefined where this is the current one. */
  #next(fd: number): number | undefined {
    const { ino, nlink } = fstatSync(fd);
    if (nlink === 0) throw new Error('records were removed before they were read');
    const full = rotatedFiles(this.#path);
    const at = full.findIndex(({ path }) => inodeOf(path) === ino);
    if (at === -1) return undefined;
    const next = opened(full[at + 1]?.path ?? this.#path);
    // Another turn since the files were listed would have put one in between: then it is looked for again.
    const sure = rotatedFiles(this.#path).at(-1)?.number === full.at(-1)?.number;
    if (next === undefined || sure) return next;
    closeSync(next);
    return undefined;
  }

  #readRest(fd: number): void {
    const bytes = Buffer.alloc(Math.max(0, fstatSync(fd).size - this.#at));
    const count = readSync(fd, bytes, 0, bytes.length, this.#at);
    this.#at += count;
    const lines = Buffer.concat([this.#rest, bytes.subarray(0, count)])
      .toString('utf8')
      .split('\n');
    this.#rest = Buffer.from(lines.pop() ?? '');
    for (const line of lines) if (line !== '') this.#records.push(JSON.parse(line));
  }
}

/** Undefined where nothing has been recorded yet. */
function opened(path: string): number | undefined {
  try {
    return openSync(path, 'r');
  } catch {
    return undefined;
  }
}

function inodeOf(path: string): number | undefined {
  return statSync(path, { throwIfNoEntry: false })?.ino;
}
