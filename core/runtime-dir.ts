import { randomBytes } from 'node:crypto';
import {
  chmodSync,
  chownSync,
  existsSync,
  lstatSync,
  mkdirSync,
  renameSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { OutriderError } from './errors.ts';

type Env = Readonly<Record<string, string | undefined>>;

/** Sockets, the local token and keys of the running mesh: `$XDG_RUNTIME_DIR/outrider`, `/run/outrider` for root, otherwise `/tmp/outrider-<uid>`. */
export function runtimeDir(env: Env, uid: number): string {
  if (env['OUTRIDER_RUNTIME_DIR']) return env['OUTRIDER_RUNTIME_DIR'];
  if (uid === 0) return '/run/outrider';
  return env['XDG_RUNTIME_DIR'] ? join(env['XDG_RUNTIME_DIR'], 'outrider') : `/tmp/outrider-${uid}`;
}

/** What outlives a run: audit, audit keys, secrets. `$XDG_STATE_HOME/outrider`, `/var/lib/outrider` for root, otherwise `~/.local/state/outrider`. */
export function stateDir(env: Env, uid: number): string {
  if (env['OUTRIDER_STATE_DIR']) return env['OUTRIDER_STATE_DIR'];
  if (env['XDG_STATE_HOME']) return join(env['XDG_STATE_HOME'], 'outrider');
  if (uid === 0) return '/var/lib/outrider';
  return join(env['HOME'] ?? '/tmp', '.local/state/outrider');
}

/**
 * Makes a directory for its owner only. One that exists must be a real directory of this user: under /tmp another user could
 * have put one there first.
 * @throws {OutriderError} CONFIG_INVALID
 */
export function ensurePrivateDir(path: string, mode = 0o700): string {
  try {
    mkdirSync(path, { recursive: true, mode });
  } catch (error) {
    if (!existsSync(path))
      throw new OutriderError(
        'CONFIG_INVALID',
        `the directory ${path} cannot be made: choose another with OUTRIDER_RUNTIME_DIR or OUTRIDER_STATE_DIR`,
        { cause: error },
      );
  }
  const found = lstatSync(path);
  const uid = process.getuid?.() ?? 0;
  if (!found.isDirectory() || found.uid !== uid)
    throw new OutriderError(
      'CONFIG_INVALID',
      `${path} must be a directory of uid ${uid}: choose another with OUTRIDER_RUNTIME_DIR or OUTRIDER_STATE_DIR, or, if what is in it is yours, make it over to that user`,
    );
  if ((found.mode & 0o777) !== mode) chmodSync(path, mode);
  return path;
}

/** Root's directory in which the mesh's user may make files, too, and remove its own; what is made in it gets that user's group. */
const SHARED_MODE = 0o3770;

/**
 * Makes the runtime directory. Where root's parts become the user `meshUid` it stays root's: that user may make its sockets in it, and
 * neither remove nor replace what is root's. Otherwise, and for 0, as `ensurePrivateDir`.
 * @throws {OutriderError} CONFIG_INVALID
 */
export function ensureRuntimeDir(path: string, meshUid: number): string {
  if (process.getuid?.() !== 0 || meshUid === 0) return ensurePrivateDir(path);
  if (isShared(path) && lstatSync(path).gid === meshUid) return path;
  ensurePrivateDir(path);
  chownSync(path, 0, meshUid);
  chmodSync(path, SHARED_MODE);
  return path;
}

/** Whether root's parts and the mesh's user meet in a directory. */
export function isShared(path: string): boolean {
  const found = statSync(path, { throwIfNoEntry: false });
  return found?.uid === 0 && (found.mode & 0o7777) === SHARED_MODE;
}

/**
 * Writes a file whole or not at all, readable by its owner only unless `mode` says more. Nothing that somebody else put into the
 * directory is written to or followed.
 */
export function writePrivateFile(path: string, content: string, mode = 0o600): void {
  const temporary = `${path}.${randomBytes(6).toString('hex')}.tmp`;
  writeFileSync(temporary, content, { mode, flag: 'wx' });
  chmodSync(temporary, mode); // whatever the umask
  renameSync(temporary, path);
}

/** As `writePrivateFile`; in a directory in which root and the mesh's user meet, that user may read it, too. */
export function writeMeshFile(path: string, content: string): void {
  writePrivateFile(path, content, isShared(dirname(path)) ? 0o640 : 0o600);
}
