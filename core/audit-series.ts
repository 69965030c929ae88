import { closeSync, existsSync, openSync, readdirSync, readSync, statSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';

/** A full file of a series. */
export interface RotatedFile {
  readonly path: string;
  readonly number: number;
}

/** The full files of the series that `path` is the current one of, the oldest first; without those that are empty. */
export function rotatedFiles(path: string): RotatedFile[] {
  return numberedFiles(path)
    .filter((file) => statSync(file).size > 0)
    .map((file) => ({ path: file, number: fileNumber(file) ?? numberInName(file) }))
    .toSorted((a, b) => a.number - b.number);
}

/** The places for full files of the series of `path`, in use or not, by their names. */
export function numberedFiles(path: string): string[] {
  const directory = dirname(path);
  if (!existsSync(directory)) return [];
  const series = seriesOf(path);
  return readdirSync(directory)
    .map((name) => join(directory, name))
    .filter((file) => numberInName(file) > 0 && seriesOf(file) === series)
    .toSorted();
}

/** What all files of one series have in common: `audit` of `audit.jsonl` and `audit.000001.jsonl`. */
function seriesOf(path: string): string {
  return basename(path).replace(/(\.\d{6,})?\.jsonl$/, '');
}

/** The number in the name of a full file; 0 for a current one. */
export function numberInName(path: string): number {
  return Number(/\.(\d{6,})\.jsonl$/.exec(path)?.[1] ?? 0);
}

export function rotatedPath(path: string, number: number): string {
  return join(dirname(path), `${seriesOf(path)}.${String(number).padStart(6, '0')}.jsonl`);
}

/** An anchor at the begin of a line says it before anything that can be long. */
const ANCHOR_BYTES = 512;

/** Which file of its series one is, as the anchor at its begin says; undefined for the first, which has none. */
export function fileNumber(path: string): number | undefined {
  const fd = openSync(path, 'r');
  try {
    const begin = Buffer.alloc(ANCHOR_BYTES);
    const read = readSync(fd, begin, 0, ANCHOR_BYTES, 0);
    const said = /^[^\n]*?"event":"anchor","file":(\d+),/.exec(begin.toString('utf8', 0, read));
    return said ? Number(said[1]) : undefined;
  } finally {
    closeSync(fd);
  }
}
