import { chmodSync, existsSync, lstatSync, mkdirSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
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
      `${path} must be a directory of uid ${uid}: remove it, or choose another with OUTRIDER_RUNTIME_DIR or OUTRIDER_STATE_DIR`,
    );
  if ((found.mode & 0o777) !== mode) chmodSync(path, mode);
  return path;
}

/** Writes a file whole or not at all, readable by its owner only. */
export function writePrivateFile(path: string, content: string, mode = 0o600): void {
  const temporary = `${path}.${process.pid}.tmp`;
  writeFileSync(temporary, content, { mode });
  renameSync(temporary, path);
}
