import {
  closeSync,
  constants,
  fchmodSync,
  fchownSync,
  fstatSync,
  mkdirSync,
  openSync,
  readdirSync,
} from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { OutriderError } from './errors.ts';
import { isRoot } from './mesh-user.ts';

const { O_RDONLY, O_DIRECTORY, O_NOFOLLOW, O_NONBLOCK } = constants;

/**
 * Lets this process go on with a file that it replaces now and then, after it has become the user `uid`. The directory is made where
 * it is missing, and held open: the path given back leads there past directories that are closed to that user, and is good in this process
 * alone. A directory of root's with nothing in it but this file (and what begins with its name) is made over to that user, and so are
 * those files where they are root's: nothing of anybody else's, nothing behind a link. Any other directory is left as it is. Where the process is not
 * root, or `uid` is 0, gives back `path`.
 * @throws {OutriderError} CONFIG_INVALID where the directory or the file is a link, or cannot be opened
 */
export function handOver(path: string, uid: number): string {
  if (!isRoot() || uid === 0) return path;
  const directory = dirname(path);
  try {
    mkdirSync(directory, { recursive: true, mode: 0o700 });
    const fd = openSync(directory, O_RDONLY | O_DIRECTORY | O_NOFOLLOW); // held until this process ends
    const held = `/proc/self/fd/${fd}`;
    const owner = fstatSync(fd).uid;
    const names = readdirSync(held);
    const ours = names.filter((name) => name.startsWith(basename(path)));
    if (owner === uid || (owner === 0 && ours.length === names.length)) {
      for (const name of ours) give(join(held, name), uid);
      fchownSync(fd, uid, uid); // last: until here nobody but root could put anything into it
      fchmodSync(fd, 0o700);
    }
    return join(held, basename(path));
  } catch (error) {
    throw new OutriderError('CONFIG_INVALID', `${path} cannot be handed over to the user ${uid}`, {
      cause: error,
    });
  }
}

function give(path: string, uid: number): void {
  const fd = openSync(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
  try {
    const found = fstatSync(fd);
    const plain = found.isFile() && found.nlink === 1; // a second name may be somebody else's file
    if (plain && found.uid === 0) fchownSync(fd, uid, uid);
  } finally {
    closeSync(fd);
  }
}
