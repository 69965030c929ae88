import { closeSync, existsSync, fstatSync, openSync, readSync } from 'node:fs';

const FIRST_BYTES = 1_048_576;

/**
 * The lines of a file from the last one that `isEnough` on, oldest first; all of it where none is. Reads from the end, twice as much
 * each time, so that what is far before is not read. A last line without its line feed is left out.
 */
export function readBackTo(path: string, isEnough: (line: string) => boolean): string[] {
  if (!existsSync(path)) return [];
  const fd = openSync(path, 'r');
  try {
    const { size } = fstatSync(fd);
    for (let length = FIRST_BYTES; ; length *= 2) {
      const lines = lastLines(fd, size, length);
      const at = lines.findLastIndex(isEnough);
      if (at >= 0 || length >= size) return lines.slice(Math.max(0, at));
    }
  } finally {
    closeSync(fd);
  }
}

function lastLines(fd: number, size: number, length: number): string[] {
  const bytes = Buffer.alloc(Math.min(size, length));
  readSync(fd, bytes, 0, bytes.length, size - bytes.length);
  // `node:readline` also ends lines at U+2028, which JSON text may hold.
  const lines = bytes.toString('utf8').split('\n');
  // The first is a part of a line unless the file begins with it; behind the last line feed is nothing whole.
  return lines.slice(bytes.length < size ? 1 : 0, -1);
}
