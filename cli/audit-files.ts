import {
  closeSync,
  existsSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  statSync,
} from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { fileNumber } from '#core/audit-series';
import { OutriderError } from '#core/errors';

/** One file of an audit, in a series of full ones before it. */
export interface AuditFileName {
  readonly path: string;
  /** Names the series: directory and name without the number. */
  readonly series: string;
  /** Of a full file; absent of a current one. */
  readonly number: number | undefined;
  /** It was not named, but the directory that it is in. */
  readonly ofDirectory: boolean;
  /** Which file it is, whatever it is called. */
  readonly inode: string;
}

const PIECE_BYTES = 1_048_576;
/** Files fill up every few seconds at most, and reading all of them takes less. */
const TRIES = 10;
/** Behind every full file. */
const CURRENT = Number.MAX_SAFE_INTEGER;

/**
 * The files of an audit, each once, those of one series together and in the order in which they were written.
 * @throws {OutriderError} NOT_FOUND
 */
export function auditFilesOf(paths: readonly string[]): AuditFileName[] {
  const files = paths.flatMap((path) =>
    namesAt(path).flatMap((name) => named(name, name !== path)),
  );
  // Of one that is named, and its directory too, the directory says more.
  const byInode = new Map(
    files
      .toSorted((a, b) => Number(a.ofDirectory) - Number(b.ofDirectory))
      .map((file) => [file.inode, file]),
  );
  return [...byInode.values()].toSorted(
    (a, b) => compare(a.series, b.series) || (a.number ?? CURRENT) - (b.number ?? CURRENT),
  );
}

/**
 * What `read` makes of the files while none is begun, filled or removed by whoever writes them: otherwise it reads again, some times.
 * @throws {Error} what `read` throws
 */
export function readStill<T>(
  paths: readonly string[],
  read: (files: readonly AuditFileName[]) => T,
): T {
  for (let left = TRIES; ; left--) {
    const files = auditFilesOf(paths);
    try {
      const result = read(files);
      if (left === 0 || JSON.stringify(auditFilesOf(paths)) === JSON.stringify(files))
        return result;
    } catch (error) {
      if (left === 0 || !isGone(error)) throw error;
    }
  }
}

/** The lines of one file, without the line feeds. */
export function linesOf({ path }: AuditFileName): string[] {
  const text = readFileSync(path, 'utf8');
  return (text.endsWith('\n') ? text.slice(0, -1) : text).split('\n');
}

/** The same, a piece of the file at a time; none of one that has been removed since it was found. */
export function* eachLine({ path }: AuditFileName): Generator<string> {
  const fd = openIfThere(path);
  if (fd === undefined) return;
  try {
    const piece = Buffer.alloc(PIECE_BYTES);
    let rest = Buffer.alloc(0);
    for (let read = readSync(fd, piece); read > 0; read = readSync(fd, piece)) {
      const bytes = Buffer.concat([rest, piece.subarray(0, read)]);
      const end = bytes.lastIndexOf(10) + 1;
      if (end > 0) yield* bytes.toString('utf8', 0, end - 1).split('\n');
      rest = bytes.subarray(end);
    }
    if (rest.length > 0) yield rest.toString('utf8');
  } finally {
    closeSync(fd);
  }
}

function namesAt(path: string): string[] {
  if (!existsSync(path)) throw new OutriderError('NOT_FOUND', `${path} does not exist`);
  if (!statSync(path).isDirectory()) return [path];
  const names = readdirSync(path).filter(
    (name) => name.endsWith('.jsonl') && !isUnused(join(path, name)),
  );
  if (names.length === 0) throw new OutriderError('NOT_FOUND', `${path} holds no *.jsonl file`);
  return names.map((name) => join(path, name));
}

/** The place of a full file that there is not yet. */
function isUnused(path: string): boolean {
  return /\.\d{6,}\.jsonl$/.test(path) && statSync(path, { throwIfNoEntry: false })?.size === 0;
}

/** Nothing where it has been removed by now. */
function named(path: string, ofDirectory: boolean): AuditFileName[] {
  const [, stem = basename(path), number] =
    /^(.*?)(?:\.(\d{6,}))?\.jsonl$/.exec(basename(path)) ?? [];
  try {
    const { dev, ino } = statSync(path);
    return [
      {
        path,
        series: join(dirname(path), stem),
        number: number === undefined ? undefined : (fileNumber(path) ?? Number(number)),
        ofDirectory,
        inode: `${dev}:${ino}`,
      },
    ];
  } catch (error) {
    if (isGone(error)) return [];
    throw error;
  }
}

function openIfThere(path: string): number | undefined {
  try {
    return openSync(path, 'r');
  } catch (error) {
    if (isGone(error)) return undefined;
    throw error;
  }
}

function isGone(error: unknown): boolean {
  return error instanceof Error && 'code' in error && error.code === 'ENOENT';
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
