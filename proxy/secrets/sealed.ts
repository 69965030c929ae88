import { createCipheriv, createDecipheriv, randomBytes } from 'node:crypto';
import type { KeyRing } from './key-ring.ts';

/** One secret as it lies on the disk. */
export interface Sealed {
  readonly version: 1;
  /** Which key opens it. */
  readonly key: string;
  /** When it was set, ISO 8601. */
  readonly changedAt: string;
  /** Base64url. */
  readonly iv: string;
  /** Ciphertext with its tag, base64url. */
  readonly data: string;
}

const IV_BYTES = 12;
const TAG_BYTES = 16;

/** AES-256-GCM with a random nonce, bound to the slot's name: moved to another name it does not open (NIST SP 800-38D). */
export function seal(slot: string, value: string, [key]: KeyRing, changedAt: Date): Sealed {
  const iv = randomBytes(IV_BYTES);
  const at = changedAt.toISOString();
  const cipher = createCipheriv('aes-256-gcm', key.bytes, iv, { authTagLength: TAG_BYTES });
  cipher.setAAD(boundTo(slot, at));
  const data = Buffer.concat([cipher.update(value, 'utf8'), cipher.final(), cipher.getAuthTag()]);
  return {
    version: 1,
    key: key.id,
    changedAt: at,
    iv: iv.toString('base64url'),
    data: data.toString('base64url'),
  };
}

/** @throws {Error} which says whether the key is missing or the file was changed */
export function open(slot: string, sealed: Sealed, ring: KeyRing): string {
  const key = ring.find(({ id }) => id === sealed.key);
  if (!key) throw new Error(`sealed with the key ${sealed.key}, which is not there`);
  const data = Buffer.from(sealed.data, 'base64url');
  const iv = Buffer.from(sealed.iv, 'base64url');
  if (data.length < TAG_BYTES || iv.length !== IV_BYTES) throw new Error('damaged');
  const decipher = createDecipheriv('aes-256-gcm', key.bytes, iv, { authTagLength: TAG_BYTES });
  decipher.setAAD(boundTo(slot, sealed.changedAt));
  decipher.setAuthTag(data.subarray(-TAG_BYTES));
  try {
    const plain = [decipher.update(data.subarray(0, -TAG_BYTES)), decipher.final()];
    return Buffer.concat(plain).toString('utf8');
  } catch {
    throw new Error('damaged, or moved from another slot');
  }
}

/** @throws {Error} where the text is no sealed secret */
export function parseSealed(text: string): Sealed {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    throw new Error('damaged');
  }
  if (typeof value !== 'object' || value === null) throw new Error('damaged');
  const { version, key, changedAt, iv, data } = { ...value } as Record<string, unknown>; // each is looked at below
  if (
    version !== 1 ||
    typeof key !== 'string' ||
    typeof changedAt !== 'string' ||
    typeof iv !== 'string' ||
    typeof data !== 'string'
  )
    throw new Error('damaged, or written by a newer version');
  return { version, key, changedAt, iv, data };
}

function boundTo(slot: string, changedAt: string): Buffer {
  return Buffer.from(`outrider secret 1\0${slot}\0${changedAt}`);
}
