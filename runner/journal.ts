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

type Line = { readonly begin: NotedExec } | { readonly end: string; readonly at: number };

/** Lines that are no longer needed before the file is written anew. */
const SLACK_LINES = 2_000;

/**
 * Notes which execs run, in a file, so that a runner that was killed can say in its next life what it lost (EXEC_LOST), and does not
 * begin again what was to run once. It holds the running execs, those with an idempotency key for 10 minutes more, and a
 * bounded number of lines about others. A line is with the kernel before the program starts: it outlives the process, not the machine.
 */
export class ExecJournal {
  /** What an earlier life left running. */
  readonly lost: readonly NotedExec[];
  /** What an earlier life ended less than 10 minutes ago, under an idempotency key. */
  readonly ended: readonly NotedExec[];
  readonly #path: string;
  readonly #now: () => number;
  readonly #noted = new Map<string, { exec: NotedExec; endedAt: number | undefined }>();
  #file: number;
  #lines = 0;

  /** @throws {OutriderError} CONFIG_INVALID where the file cannot be used */
  constructor(path: string, now: () => number = Date.now) {
    this.#path = path;
    this.#now = now;
    try {
      mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
      for (const line of readLines(path)) this.#replay(line);
      const all = [...this.#noted.values()];
      this.lost = all.filter(({ endedAt }) => endedAt === undefined).map(({ exec }) => exec);
      for (const entry of all) entry.endedAt ??= now();
      this.ended = all.map(({ exec }) => exec).filter((exec) => !this.lost.includes(exec));
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
    this.#noted.set(exec.execId, { exec, endedAt: undefined });
  }

  /**
   * Never throws: an end that cannot be noted is told as a loss by the next life. One that never began leaves nothing, and its
   * key is free.
   */
  end(execId: string, began = true): void {
    const entry = this.#noted.get(execId);
    if (!entry) return;
    const at = began ? this.#now() : 0; // so long ago that its key is forgotten
    if (began && entry.exec.idempotency) entry.endedAt = at;
    else this.#noted.delete(execId);
    try {
      this.#write({ end: execId, at });
      if (this.#lines > this.#noted.size + SLACK_LINES) {
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
      this.#noted.set(line.begin.execId, { exec: line.begin, endedAt: undefined });
      return;
    }
    const entry = this.#noted.get(line.end);
    if (entry?.exec.idempotency && line.at > this.#now() - KEEP_MS) entry.endedAt = line.at;
    else this.#noted.delete(line.end);
  }

  /** Writes what is still needed, in place of the file; gives the new file, open for more. */
  #rewrite(): number {
    for (const [id, { endedAt }] of this.#noted)
      if (endedAt !== undefined && endedAt <= this.#now() - KEEP_MS) this.#noted.delete(id);
    const lines = [...this.#noted.values()].flatMap(({ exec, endedAt }): Line[] => [
      { begin: exec },
      ...(endedAt === undefined ? [] : [{ end: exec.execId, at: endedAt }]),
    ]);
    const next = `${this.#path}.new`;
    writeFileSync(next, lines.map((line) => JSON.stringify(line)).join('\n'), { mode: 0o600 });
    const file = openSync(next, 'a', 0o600);
    renameSync(next, this.#path);
    this.#lines = lines.length;
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
