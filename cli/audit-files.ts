import {
  closeSync,
  existsSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  realpathSync,
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
}

const PIECE_BYTES = 1_048_576;
/** Behind every full file. */
const CURRENT = Number.MAX_SAFE_INTEGER;

/**
 * The files of an audit, each once, those of one series together and in the order in which they were written.
 * @throws {OutriderError} NOT_FOUND
 */
export function auditFilesOf(paths: readonly string[]): AuditFileName[] {
  const files = paths.flatMap((path) => namesAt(path).map((name) => named(name, name !== path)));
  // Of one that is named, and its directory too, the directory says more.
  const byPlace = new Map(
    files
      .toSorted((a, b) => Number(a.ofDirectory) - Number(b.ofDirectory))
      .map((file) => [realpathSync(file.path), file]),
  );
  return [...byPlace.values()].toSorted(
    (a, b) => compare(a.series, b.series) || (a.number ?? CURRENT) - (b.number ?? CURRENT),
  );
}

/** The lines of one file, without the line feeds. */
export function linesOf({ path }: AuditFileName): string[] {
  const text = readFileSync(path, 'utf8');
  return (text.endsWith('\n') ? text.slice(0, -1) : text).split('\n');
}

/** The same, a piece of the file at a time. */
export function* eachLine({ path }: AuditFileName): Generator<string> {
  const fd = openSync(path, 'r');
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
  return /\.\d{6,}\.jsonl$/.test(path) && statSync(path).size === 0;
}

function named(path: string, ofDirectory: boolean): AuditFileName {
  const [, stem = basename(path), number] =
    /^(.*?)(?:\.(\d{6,}))?\.jsonl$/.exec(basename(path)) ?? [];
  return {
    path,
    series: join(dirname(path), stem),
    number: number === undefined ? undefined : (fileNumber(path) ?? Number(number)),
    ofDirectory,
  };
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
