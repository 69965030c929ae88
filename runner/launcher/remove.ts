import { execFile } from 'node:child_process';
import { lstatSync, readdirSync, rmdirSync, rmSync, unlinkSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { isRoot } from '#core/mesh-user';

/**
 * Removes a directory of the runner's, beneath one that is the launcher's. The runner may exchange anything in it at any moment for a link, so
 * as root only what is itself in the directory is removed; what lies deeper, with the runner's own rights, which cannot
 * reach more than the runner can. What is not there is no failure.
 * @throws {Error} where something stays
 */
export async function removeDirectory(path: string): Promise<void> {
  let failure: unknown;
  for (let tries = 0; tries < TRIES; tries++) {
    failure = await removeOnce(path).catch((error: unknown) => error);
    // Also where nothing failed: when a socket is taken away just then, Node's rmSync leaves the directory and says nothing.
    if (!lstatSync(path, { throwIfNoEntry: false })) return;
  }
  throw failure instanceof Error ? failure : new Error('something is made in it again and again');
}

const TRIES = 5;

async function removeOnce(path: string): Promise<void> {
  const found = lstatSync(path, { throwIfNoEntry: false });
  if (!found) return;
  if (!isRoot() || found.uid === 0 || !found.isDirectory()) {
    rmSync(path, { recursive: true, force: true });
    return;
  }
  if (!removeFiles(path)) {
    const as = { uid: found.uid, gid: found.uid };
    await promisify(execFile)('rm', ['-rf', '--', path], as).catch(() => {}); // the directory itself it cannot remove
    removeFiles(path);
  }
  rmdirSync(path);
}

/** Whether only files were in it. */
function removeFiles(directory: string): boolean {
  const all = readdirSync(directory).map((name) => {
    try {
      unlinkSync(join(directory, name));
      return true;
    } catch (error) {
      return error instanceof Error && 'code' in error && error.code === 'ENOENT';
    }
  });
  return !all.includes(false);
}
