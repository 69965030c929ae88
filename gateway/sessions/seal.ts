import { createCipheriv, createDecipheriv, randomBytes } from 'node:crypto';
import type { KeyRing } from './key-ring.ts';

/** Why a sealed text does not open. */
export type Unsealed = 'malformed' | 'unknown_key' | 'forged';

const CIPHER = 'aes-256-gcm';
const IV_BYTES = 12;
const TAG_BYTES = 16;
const SHAPE = /^([\w-]{1,32})\.([\w-]+)$/;

/**
 * `<kid>.<base64url of iv, ciphertext, tag>`, AES-256-GCM with the ring's first key. It opens only as the same `kind` of thing and with
 * the same `binding`.
 */
export function sealText(
  text: string,
  kind: string,
  binding: readonly string[],
  { first }: KeyRing,
): string {
  const iv = randomBytes(IV_BYTES);
  const cipher = createCipheriv(CIPHER, first.key, iv);
  cipher.setAAD(associated(kind, first.kid, binding));
  const sealed = Buffer.concat([
    iv,
    cipher.update(text, 'utf8'),
    cipher.final(),
    cipher.getAuthTag(),
  ]);
  return `${first.kid}.${sealed.toString('base64url')}`;
}

/** What was sealed, or why it does not open. Never throws. */
export function openText(
  sealed: string,
  kind: string,
  binding: readonly string[],
  ring: KeyRing,
): { readonly text: string } | Unsealed {
  const [, kid = '', encoded = ''] = SHAPE.exec(sealed) ?? [];
  const bytes = Buffer.from(encoded, 'base64url');
  // One sealed text has one spelling, else a session could be ended in one and used in another.
  if (bytes.length <= IV_BYTES + TAG_BYTES || bytes.toString('base64url') !== encoded)
    return 'malformed';
  const key = ring.find(kid);
  if (!key) return 'unknown_key';
  const decipher = createDecipheriv(CIPHER, key.key, bytes.subarray(0, IV_BYTES), {
    authTagLength: TAG_BYTES,
  });
  decipher.setAAD(associated(kind, kid, binding));
  decipher.setAuthTag(bytes.subarray(-TAG_BYTES));
  try {
    const begun = decipher.update(bytes.subarray(IV_BYTES, -TAG_BYTES), undefined, 'utf8');
    return { text: begun + decipher.final('utf8') };
  } catch {
    return 'forged';
  }
}

function associated(kind: string, kid: string, binding: readonly string[]): Buffer {
  return Buffer.from(JSON.stringify([kind, kid, ...binding]));
}
