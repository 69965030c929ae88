import { createHash } from 'node:crypto';
import { mkdirSync, rmSync } from 'node:fs';
import { type FileHandle, open, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { OutriderError } from '#core/errors';
import { type Owner, Shares } from './shares.ts';

/** A file that a program left in /output. */
export interface Artefact {
  /** Relative to /output; no part of it is empty, "." or "..". */
  readonly path: string;
  readonly size: number;
  /** Lower-case hex; empty where the file was too large to be kept, or could not be read. */
  readonly sha256: string;
  /** Empty where it was too large to be taken along. */
  readonly content: Buffer;
}

/** A file as the agent found it. */
export interface FoundArtefact {
  readonly path: string;
  readonly size: number;
}

/** Reads at most `length` bytes of a found file from `offset`; nothing at its end. */
export type ReadFound = (path: string, offset: number, length: number) => Promise<Buffer>;

export interface ArtefactStoreOptions {
  /** Private to the runner; emptied when the store is made and removed when it is closed. */
  readonly directory: string;
  /** Kept of one exec, the first files first. A file that does not fit any more is only named. */
  readonly perExecBytes: number;
  /** Kept of all execs; beyond it the oldest exec goes of whoever has the most. */
  readonly totalBytes: number;
  readonly keepMs: number;
  readonly now?: () => number;
}

/** What travels with the end itself: of each file, and of all together. */
const INLINE_FILE_MAX = 256 * 1024;
const INLINE_TOTAL_MAX = 2 * 2 ** 20;
const CHUNK_BYTES = 512 * 1024;
/** What an exec's entry weighs beside the contents: names, and a file of its own. */
const KEPT_BYTES = 4_096;

interface Kept {
  readonly path: string;
  readonly files: Map<string, { readonly offset: number; readonly size: number }>;
  readonly at: number;
}

/** The artefacts of ended execs, for a while: the sandboxes that made them may be gone. Who may read them is not asked here. */
export class ArtefactStore {
  readonly #options: ArtefactStoreOptions;
  readonly #now: () => number;
  readonly #kept = new Map<string, Kept>();
  readonly #shares = new Shares<string>();
  readonly #sweeper: NodeJS.Timeout;

  constructor(options: ArtefactStoreOptions) {
    this.#options = options;
    this.#now = options.now ?? Date.now;
    rmSync(options.directory, { recursive: true, force: true });
    mkdirSync(options.directory, { recursive: true, mode: 0o700 });
    this.#sweeper = setInterval(() => this.#dropOld(), Math.max(1_000, options.keepMs / 20));
    this.#sweeper.unref();
  }

  /** Takes what an exec left, once, at its end. Never rejects: what cannot be read or kept is only named. */
  async keep(
    execId: string,
    who: Owner,
    found: readonly FoundArtefact[],
    read: ReadFound,
  ): Promise<Artefact[]> {
    if (found.length === 0) return [];
    const room = Math.min(this.#options.perExecBytes, this.#options.totalBytes);
    const chosen = fitting(found, room);
    const spool = await this.#begin(execId, who, sum(chosen)).catch(() => undefined);
    const artefacts: Artefact[] = [];
    let inline = INLINE_TOTAL_MAX;
    for (const file of found) {
      const taken = spool && chosen.has(file) ? await take(file, read, spool, inline) : undefined;
      const artefact = taken ?? { ...file, sha256: '', content: Buffer.alloc(0) };
      inline -= artefact.content.length;
      artefacts.push(artefact);
    }
    await spool?.file.close().catch(() => {});
    return artefacts;
  }

  /** The whole content of a kept file. @throws {OutriderError} FILE_NOT_FOUND, also for what is kept no longer */
  async *open(execId: string, path: string): AsyncGenerator<Buffer, void, undefined> {
    this.#dropOld();
    const kept = this.#kept.get(execId);
    const entry = kept?.files.get(path);
    if (!kept || !entry) throw notKept();
    const file = await open(kept.path, 'r').catch(() => {
      throw notKept();
    });
    try {
      for (let done = 0; done < entry.size; ) {
        const length = Math.min(CHUNK_BYTES, entry.size - done);
        const position = entry.offset + done;
        const { buffer, bytesRead } = await file.read(Buffer.alloc(length), 0, length, position);
        if (bytesRead === 0) throw notKept();
        done += bytesRead;
        yield buffer.subarray(0, bytesRead);
      }
    } finally {
      await file.close();
    }
  }

  /** Drops what is kept of an exec; of an unknown one nothing. */
  forget(execId: string): void {
    const kept = this.#kept.get(execId);
    this.#kept.delete(execId);
    this.#shares.delete(execId);
    if (kept) void rm(kept.path, { force: true }).catch(() => {});
  }

  /** Drops everything. */
  close(): void {
    clearInterval(this.#sweeper);
    this.#kept.clear();
    rmSync(this.#options.directory, { recursive: true, force: true });
  }

  async #begin(execId: string, who: Owner, bytes: number): Promise<Spool> {
    this.#dropOld();
    while (this.#shares.bytes + bytes > this.#options.totalBytes) {
      const { first } = this.#shares;
      if (first === undefined) break;
      this.forget(first);
    }
    const path = join(this.#options.directory, execId);
    const kept: Kept = { path, files: new Map(), at: this.#now() };
    this.#kept.set(execId, kept);
    this.#shares.add(execId, who, bytes + KEPT_BYTES);
    return { file: await open(path, 'wx', 0o600), files: kept.files, written: 0 };
  }

  #dropOld(): void {
    for (const [execId, { at }] of this.#kept) {
      if (this.#now() - at < this.#options.keepMs) break; // the oldest stand first
      this.forget(execId);
    }
  }
}

interface Spool {
  readonly file: FileHandle;
  readonly files: Kept['files'];
  written: number;
}

/** Copies one file into the spool; undefined where that fails. It ends where it was found to end, or sooner. */
async function take(
  { path, size }: FoundArtefact,
  read: ReadFound,
  spool: Spool,
  inlineRoom: number,
): Promise<Artefact | undefined> {
  const inline = size <= Math.min(INLINE_FILE_MAX, inlineRoom);
  const hash = createHash('sha256');
  const content: Buffer[] = [];
  const offset = spool.written;
  let done = 0;
  try {
    while (done < size) {
      const piece = (await read(path, done, Math.min(CHUNK_BYTES, size - done))).subarray(
        0,
        size - done,
      );
      if (piece.length === 0) break;
      await spool.file.write(piece, 0, piece.length, offset + done);
      hash.update(piece);
      if (inline) content.push(piece);
      done += piece.length;
    }
  } catch {
    return undefined;
  }
  spool.written = offset + done;
  spool.files.set(path, { offset, size: done });
  return { path, size: done, sha256: hash.digest('hex'), content: Buffer.concat(content) };
}

/** The files that there is room for, in their order. */
function fitting(found: readonly FoundArtefact[], room: number): Set<FoundArtefact> {
  let left = room;
  return new Set(
    found.filter(({ size }) => {
      if (size > left) return false;
      left -= size;
      return true;
    }),
  );
}

function sum(files: Iterable<FoundArtefact>): number {
  return [...files].reduce((total, { size }) => total + size, 0);
}

function notKept(): OutriderError {
  return new OutriderError('FILE_NOT_FOUND', 'there is no such artefact, or it is kept no longer');
}
