import { createHash, randomBytes } from 'node:crypto';
import { existsSync, linkSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { OutriderError } from '#core/errors';
import { ensurePrivateDir, writePrivateFile } from '#core/runtime-dir';

type Env = Readonly<Record<string, string | undefined>>;

/** One key of the local store: 32 random bytes for AES-256-GCM. */
export interface StoreKey {
  /** The beginning of the key's SHA-256: names the key in what was sealed with it, and says nothing of it. */
  readonly id: string;
  readonly bytes: Buffer;
}

/** The first seals; all open. Never empty. */
export type KeyRing = readonly [StoreKey, ...StoreKey[]];

const KEY_BYTES = 32;

/**
 * The keys that `place` names: `file:PATH`, which nobody but its owner may read, or `env:NAME`. Either holds one or several keys, each 32
 * bytes in base64 or base64url, apart by commas or white space.
 * @throws {OutriderError} CONFIG_INVALID, which says what is wrong and not what the key is
 */
export function readKeyRing(place: string, env: Env): KeyRing {
  const [kind, name] = splitPlace(place);
  const text = kind === 'env' ? env[name] : readKeyFile(name);
  if (text === undefined || text.trim() === '')
    throw new OutriderError(
      'CONFIG_INVALID',
      `there is no key of the secret store in ${place}: set proxy.secretStore.key, or bring the key back that the secrets are sealed with; for a store without secrets \`outrider secret set\` makes one`,
    );
  const [first, ...others] = text
    .trim()
    .split(/[\s,]+/)
    .map((word) => parseKey(word, place));
  if (!first) throw new Error('unreachable: a text that is not empty has a word');
  return [first, ...others];
}

/** Makes the key file where there is none. Of two that do so at once one makes it, and both go on with that one. */
export function makeKeyFile(place: string): void {
  const [kind, path] = splitPlace(place);
  if (kind !== 'file' || existsSync(path)) return;
  ensurePrivateDir(dirname(path));
  const temporary = `${path}.${randomBytes(6).toString('hex')}.tmp`;
  writeFileSync(temporary, `${newKey()}\n`, { mode: 0o600, flag: 'wx' });
  try {
    linkSync(temporary, path);
  } catch (error) {
    if (!existsSync(path)) throw error;
  } finally {
    rmSync(temporary, { force: true });
  }
}

/**
 * Runs `change` while nobody else changes these keys: of two at once each would drop the key that the other seals with. Who was killed
 * meanwhile keeps nobody out.
 * @throws {OutriderError} CONFIG_INVALID where somebody else is at it
 */
export function changingKeys<T>(place: string, change: () => T): T {
  const [kind, path] = splitPlace(place);
  if (kind !== 'file') return change();
  const lock = `${path}.lock`;
  takeLock(lock);
  try {
    return change();
  } finally {
    rmSync(lock, { force: true });
  }
}

/** Puts a new key first. What the others sealed still opens. @throws {OutriderError} CONFIG_INVALID for keys in the environment */
export function addKey(place: string, env: Env): KeyRing {
  const [kind, path] = splitPlace(place);
  if (kind !== 'file')
    throw new OutriderError(
      'CONFIG_INVALID',
      `the key is in ${place}: put a new one before it, apart by a comma, and run this again with --key-given`,
    );
  const old = readKeyRing(place, env).map(({ bytes }) => bytes.toString('base64url'));
  writePrivateFile(path, `${[newKey(), ...old].join('\n')}\n`);
  return readKeyRing(place, env);
}

/**
 * Leaves the first two keys, when nothing is sealed by the others any more. The second stays until the next change: a writer that began
 * before this one may put a secret in place that is sealed with it.
 */
export function dropOldKeys(place: string, env: Env): void {
  const [kind, path] = splitPlace(place);
  if (kind !== 'file') return;
  const kept = readKeyRing(place, env).slice(0, 2);
  writePrivateFile(path, kept.map(({ bytes }) => `${bytes.toString('base64url')}\n`).join(''));
}

/** The file is there with its content or not at all. */
function takeLock(lock: string): void {
  const temporary = `${lock}.${randomBytes(6).toString('hex')}.tmp`;
  writeFileSync(temporary, String(process.pid), { mode: 0o600, flag: 'wx' });
  try {
    if (isAbandoned(lock)) rmSync(lock, { force: true });
    linkSync(temporary, lock);
  } catch (error) {
    if (!existsSync(lock)) throw error;
    throw new OutriderError(
      'CONFIG_INVALID',
      `another process is changing the keys of the secret store; where that cannot be, remove ${lock}`,
      { cause: error },
    );
  } finally {
    rmSync(temporary, { force: true });
  }
}

/** Whether whoever wrote it runs no more. One that is gone meanwhile is not for us to remove. */
function isAbandoned(lock: string): boolean {
  try {
    return !isRunning(Number(readFileSync(lock, 'utf8')));
  } catch {
    return false;
  }
}

function isRunning(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch (error) {
    return error instanceof Error && 'code' in error && error.code === 'EPERM';
  }
}

/** @throws {OutriderError} CONFIG_INVALID, without `place`: what stands there by mistake may be the key itself */
function splitPlace(place: string): ['env' | 'file', string] {
  const at = place.indexOf(':');
  const [kind, name] = [place.slice(0, at), place.slice(at + 1)];
  if ((kind !== 'env' && kind !== 'file') || name === '')
    throw new OutriderError(
      'CONFIG_INVALID',
      'proxy.secretStore.key must say where the key is, as file:PATH or env:NAME, and not be the key',
    );
  return [kind, name];
}

function readKeyFile(path: string): string | undefined {
  const stat = statSync(path, { throwIfNoEntry: false });
  if (!stat) return undefined;
  if ((stat.mode & 0o077) !== 0)
    throw new OutriderError(
      'CONFIG_INVALID',
      `the key of the secret store ${path} can be read by others: chmod 600 ${path}`,
    );
  return readFileSync(path, 'utf8');
}

function parseKey(word: string, place: string): StoreKey {
  const bytes = Buffer.from(word, 'base64');
  if (!/^[\w+/=-]+$/.test(word) || bytes.length !== KEY_BYTES)
    throw new OutriderError(
      'CONFIG_INVALID',
      `a key of the secret store in ${place} is not ${KEY_BYTES} bytes in base64: \`openssl rand -base64 ${KEY_BYTES}\` makes one`,
    );
  return { id: createHash('sha256').update(bytes).digest('hex').slice(0, 12), bytes };
}

function newKey(): string {
  return randomBytes(KEY_BYTES).toString('base64url');
}
