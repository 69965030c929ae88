import { createSecretKey, type KeyObject, randomBytes } from 'node:crypto';
import { existsSync, linkSync, mkdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import { dirname } from 'node:path';
import { type Address, isLoopback } from '#core/address';
import { OutriderError } from '#core/errors';
import { isRecord } from '#core/is-record';
import type { Logger } from '#core/log';
import { writePrivateFile } from '#core/runtime-dir';

/** A key that session ids are sealed with, and the name under which an id says so. */
export interface SessionKey {
  readonly kid: string;
  readonly key: KeyObject;
}

/** The keys of one moment. */
export interface KeyRing {
  /** Seals what is new. */
  readonly first: SessionKey;
  readonly find: (kid: string) => SessionKey | undefined;
}

const KEY_BYTES = 32;
const FILE_CHECK_MS = 1_000;
/** Random bytes have never been seen with fewer different ones: 32 of them have 30 on average. */
const DIFFERENT_BYTES_MIN = 16;
/** The name of a key that a gateway made for itself: no other replica has it. */
const OWN_KID = 'local';

/**
 * The keys in the file `path`, `{"keys": [{"kid": "2026-11", "key": "<32 random bytes, base64>"}]}`: the first seals, all of
 * them open. The file is read again within a second after it changed, so that keys rotate without a restart: the new one goes to
 * the end of every replica's list, then to its front, then the old one goes. A file that turns unusable keeps its last keys.
 *
 * On loopback a missing file is made. Elsewhere there are replicas, which must have the same keys: a file must be given there.
 * @throws {OutriderError} CONFIG_INVALID
 */
export function openKeyRing(path: string, listen: Address, log: Logger): () => KeyRing {
  const local = isLoopback(listen);
  if (local) makeSessionKeys(path);
  let version = versionOf(path);
  let ring = readKeyRing(path, local);
  let checked = Date.now();
  return () => {
    const now = Date.now();
    if (now - checked < FILE_CHECK_MS) return ring;
    checked = now;
    try {
      const found = versionOf(path);
      if (found === version) return ring;
      version = found;
      ring = readKeyRing(path, local);
      log.info('the keys of sessions were read again');
    } catch (error) {
      log.warn('the keys of sessions cannot be read again; the old ones stay', { error });
    }
    return ring;
  };
}

/** Makes the file of keys where there is none. Two gateways that start at once end up with the keys of one of them. */
export function makeSessionKeys(path: string): void {
  if (existsSync(path)) return;
  const mine = `${path}.${process.pid}.new`;
  const key = randomBytes(KEY_BYTES).toString('base64');
  mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
  writePrivateFile(mine, `${JSON.stringify({ keys: [{ kid: OWN_KID, key }] })}\n`);
  try {
    linkSync(mine, path);
  } catch (error) {
    if (!existsSync(path)) throw error;
  } finally {
    rmSync(mine);
  }
}

function versionOf(path: string): string {
  const stat = statSync(path, { bigint: true, throwIfNoEntry: false });
  return stat ? `${stat.ino}.${stat.size}.${stat.mtimeNs}` : 'absent';
}

function readKeyRing(path: string, local: boolean): KeyRing {
  const refuse = (problem: string, cause?: unknown) =>
    new OutriderError('CONFIG_INVALID', `gateway.sessionKeys: ${path} ${problem}`, { cause });
  const stat = statSync(path, { throwIfNoEntry: false });
  if (!stat)
    throw refuse(
      'does not exist: beyond loopback the replicas of a gateway share a file of keys, {"keys": [{"kid": "2026-11", "key": "<openssl rand -base64 32>"}]}',
    );
  if ((stat.mode & 0o077) !== 0) throw refuse(`can be read by others: chmod 600 ${path}`);
  const keys = entriesOf(path).map((entry) => {
    const key = keyOf(entry);
    if (!key)
      throw refuse(
        'must be {"keys": [{"kid": "<name>", "key": "<32 random bytes, base64>"}]}: `openssl rand -base64 32` makes a key',
      );
    return key;
  });
  const [first] = keys;
  if (!first) throw refuse('holds no key');
  const byKid = new Map(keys.map((key) => [key.kid, key]));
  if (byKid.size !== keys.length) throw refuse('names two keys alike');
  if (!local && byKid.has(OWN_KID))
    throw refuse(
      `holds the key "${OWN_KID}", which one gateway made for itself: beyond loopback make keys that all replicas share`,
    );
  return { first, find: (kid) => byKid.get(kid) };
}

function entriesOf(path: string): readonly unknown[] {
  try {
    const parsed: unknown = JSON.parse(readFileSync(path, 'utf8'));
    const keys: unknown = isRecord(parsed) ? parsed['keys'] : undefined;
    return Array.isArray(keys) ? keys : [undefined];
  } catch {
    return [undefined]; // the parser's message would quote the file
  }
}

function keyOf(entry: unknown): SessionKey | undefined {
  if (!isRecord(entry)) return undefined;
  const { kid, key } = entry;
  if (typeof kid !== 'string' || !/^[\w-]{1,32}$/.test(kid) || typeof key !== 'string')
    return undefined;
  const bytes = Buffer.from(key, 'base64');
  // A key that somebody typed, or copied from an example, opens every session of everybody.
  if (bytes.length !== KEY_BYTES || new Set(bytes).size < DIFFERENT_BYTES_MIN) return undefined;
  return { kid, key: createSecretKey(bytes) };
}
