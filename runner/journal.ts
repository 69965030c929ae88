import {
  closeSync,
  mkdirSync,
  openSync,
  readFileSync,
  renameSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { dirname } from 'node:path';
import { OutriderError } from '#core/errors';
import { KEEP_MS } from './idempotency.ts';

/** What the next life of this runner must know of an exec. */
export interface NotedExec {
  readonly execId: string;
  readonly sandboxId: string;
  readonly session: string;
  readonly role: string;
  readonly requestId: string;
  readonly policyDigest: string;
  /** Milliseconds since 1970. */
  readonly startedAt: number;
  readonly issuer: string;
  readonly subject: string;
  readonly tenant: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly purpose: string;
  readonly idempotency: { readonly key: string; readonly digest: string } | undefined;
}

/** One that an earlier life left running, and when the life after it found that out, in milliseconds since 1970. */
export interface LostExec {
  readonly exec: NotedExec;
  readonly at: number;
}

type Line =
  | { readonly begin: NotedExec; readonly over?: Over }
  | { readonly end: string; readonly at: number };

/** How it was over: it ended, or was lost. */
interface Over {
  readonly at: number;
  readonly lost: boolean;
}

interface Entry {
  readonly exec: NotedExec;
  over: Over | undefined;
}

/** How long and how many of the newest lost execs are told of. */
export const LOST_KEEP_MS = 60 * 60_000;
export const LOST_MAX = 2_000;

/** Lines that are no longer needed before the file is written anew. */
const SLACK_LINES = 2_000;

/**
 * Notes which execs run, in a file, so that a runner that was killed can say in its next lives what it lost (EXEC_LOST), and does
 * not begin again what was to run once. It holds the running execs, those with an idempotency key for 10 minutes more, the
 * newest 2 000 that were lost for an hour, and about as many lines that are no longer needed. A line is with the kernel before the
 * program starts: it outlives the process, not the machine.
 */
export class ExecJournal {
  /** What the life before this one left running. */
  readonly lost: readonly NotedExec[];
  /** What lives before that one left running, less than an hour ago, the oldest first: it was told once already. */
  readonly lostEarlier: readonly LostExec[];
  /** What an earlier life ended less than 10 minutes ago, under an idempotency key. */
  readonly ended: readonly NotedExec[];
  readonly #path: string;
  readonly #now: () => number;
  readonly #noted = new Map<string, Entry>();
  #file: number;
  #lines = 0;
  /** How many were needed when the file was last written anew. */
  #needed = 0;

  /** @throws {OutriderError} CONFIG_INVALID where the file cannot be used */
  constructor(path: string, now: () => number = Date.now) {
    this.#path = path;
    this.#now = now;
    try {
      mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
      for (const line of readLines(path)) this.#replay(line);
      this.#forget();
      const all = [...this.#noted.values()];
      this.lost = all.filter(({ over }) => !over).map(({ exec }) => exec);
      this.lostEarlier = all
        .flatMap(({ exec, over }) => (over?.lost ? [{ exec, at: over.at }] : []))
        .toSorted((one, other) => one.at - other.at);
      this.ended = all.filter(({ over }) => over && !over.lost).map(({ exec }) => exec);
      for (const entry of all) entry.over ??= { at: now(), lost: true };
      this.#file = this.#rewrite();
    } catch (error) {
      throw new OutriderError('CONFIG_INVALID', 'runner.journal cannot be written', {
        cause: error,
      });
    }
  }

  /** @throws {OutriderError} AUDIT_UNAVAILABLE; then the program must not start */
  begin(exec: NotedExec): void {
    try {
      this.#write({ begin: exec });
    } catch (error) {
      throw new OutriderError('AUDIT_UNAVAILABLE', 'the program cannot be noted', { cause: error });
    }
    this.#noted.set(exec.execId, { exec, over: undefined });
  }

  /**
   * Never throws: an end that cannot be noted is told as a loss by the next life. One that never began leaves nothing, and its
   * key is free.
   */
  end(execId: string, began = true): void {
    const entry = this.#noted.get(execId);
    if (!entry) return;
    const at = began ? this.#now() : 0; // so long ago that its key is forgotten
    if (began && entry.exec.idempotency) entry.over = { at, lost: false };
    else this.#noted.delete(execId);
    try {
      this.#write({ end: execId, at });
      if (this.#lines > 2 * this.#needed + SLACK_LINES) {
        const old = this.#file;
        this.#file = this.#rewrite();
        closeSync(old);
      }
    } catch {}
  }

  close(): void {
    closeSync(this.#file);
  }

  #replay(line: Line): void {
    if ('begin' in line) {
      this.#noted.set(line.begin.execId, { exec: line.begin, over: line.over });
      return;
    }
    const entry = this.#noted.get(line.end);
    if (entry?.exec.idempotency) entry.over = { at: line.at, lost: false };
    else this.#noted.delete(line.end);
  }

  /** What was over so long ago that nobody may ask for it, and of what was lost all but the newest. */
  #forget(): void {
    const lost = [...this.#noted.values()].filter(({ over }) => over?.lost);
    const tooMany = lost
      .toSorted((one, other) => (one.over?.at ?? 0) - (other.over?.at ?? 0))
      .slice(0, -LOST_MAX);
    for (const { exec } of tooMany) this.#noted.delete(exec.execId);
    for (const [id, { over }] of this.#noted)
      if (over && over.at <= this.#now() - (over.lost ? LOST_KEEP_MS : KEEP_MS))
        this.#noted.delete(id);
  }

  /** Writes what is still needed, in place of the file; gives the new file, open for more. */
  #rewrite(): number {
    this.#forget();
    const lines = [...this.#noted.values()].map(
      ({ exec, over }): Line => ({ begin: exec, ...(over && { over }) }),
    );
    const next = `${this.#path}.new`;
    writeFileSync(next, lines.map((line) => JSON.stringify(line)).join('\n'), { mode: 0o600 });
    const file = openSync(next, 'a', 0o600);
    renameSync(next, this.#path);
    this.#lines = lines.length;
    this.#needed = lines.length;
    return file;
  }

  #write(line: Line): void {
    const bytes = Buffer.from(`\n${JSON.stringify(line)}`); // a line that broke off must not spoil the one after it
    for (let at = 0; at < bytes.length; ) at += writeSync(this.#file, bytes, at); // a nearly full disk takes a part
    this.#lines += 1;
  }
}

/** The lines that are whole: of one that broke off with the process, the program never started. */
function readLines(path: string): Line[] {
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return [];
    throw error;
  }
  return text.split('\n').flatMap((line) => {
    try {
      const read: Line = JSON.parse(line); // written by an earlier life of this program
      return [read];
    } catch {
      return [];
    }
  });
}
