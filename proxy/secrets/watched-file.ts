import { closeSync, constants, fstatSync, openSync, readFileSync } from 'node:fs';
import { PEM_MAX_BYTES } from './value.ts';

/** How long what was read is taken without looking whether the file has changed: a look costs as much as the rest of a request. */
const LOOK_EVERY_MS = 200;

interface Known {
  readonly path: string;
  readonly stamp: string;
  readonly text: string;
  lookedAt: number;
}

/**
 * Small text files, each read again when it has changed: 200 ms after that at most. A Kubernetes mount swaps a link to another
 * directory, so the path is looked up anew each time, and the inode counts as well as the time. A file that is gone is an error from
 * then on, not its last text.
 */
export class WatchedFiles {
  readonly #known = new Map<string, Known>();
  readonly #now: () => number;

  constructor(now: () => number = () => performance.now()) {
    this.#now = now;
  }

  /** The text of the file that `locate` names. @throws {Error} whatever `locate` throws, or why it cannot be read */
  read(name: string, locate: () => string): string {
    const known = this.#known.get(name);
    const now = this.#now();
    if (known && now - known.lookedAt < LOOK_EVERY_MS) return known.text;
    try {
      const fresh = readIfChanged(locate(), known);
      this.#known.set(name, { ...fresh, lookedAt: now });
      return fresh.text;
    } catch (error) {
      this.#known.delete(name);
      throw error;
    }
  }
}

function readIfChanged(
  path: string,
  known: Known | undefined,
): { path: string; stamp: string; text: string } {
  // Of a pipe nobody writes to, opening would never return otherwise.
  const fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  try {
    const stat = fstatSync(fd, { bigint: true });
    if (!stat.isFile()) throw new Error('not a regular file');
    if (stat.size > PEM_MAX_BYTES) throw new Error(`larger than ${PEM_MAX_BYTES} bytes`);
    const stamp = `${stat.dev}.${stat.ino}.${stat.mtimeNs}.${stat.ctimeNs}.${stat.size}`;
    if (known?.path === path && known.stamp === stamp) return known;
    return { path, stamp, text: readFileSync(fd, 'utf8') };
  } finally {
    closeSync(fd);
  }
}
