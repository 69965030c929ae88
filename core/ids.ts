import { randomFillSync } from 'node:crypto';

const ID_BYTES = 16;
/** Asking the system costs the same for 256 ids as for one. */
const block = Buffer.alloc(256 * ID_BYTES);
let used = block.length;

/** `prefix-` and 128 random bits in lower-case base 32: cannot be guessed, fits a file name, a DNS label and a JWT. */
export function newId(prefix: 'sbx' | 'exec' | 'att' | 'req' | 'jti' | 'w' | 'ids'): string {
  return `${prefix}-${base32(nextRandom())}`;
}

/** Whether `text` is what `newId('ids')` makes: the space in which one client's JSON-RPC ids are its own. */
export function isIdSpace(text: unknown): text is string {
  return typeof text === 'string' && /^ids-[a-z2-7]{26}$/.test(text);
}

/** Whether a caller's request id may be used as it is: 1 to 128 visible ASCII characters, as logs and headers allow. */
export function isRequestId(text: unknown): text is string {
  return typeof text === 'string' && /^[\x21-\x7e]{1,128}$/.test(text);
}

/** The caller's request id where it is usable, otherwise a new one. */
export function requestIdFrom(header: unknown): string {
  return isRequestId(header) ? header : newId('req');
}

/** Bytes that nobody was given before. */
function nextRandom(): Uint8Array {
  if (used === block.length) {
    randomFillSync(block);
    used = 0;
  }
  used += ID_BYTES;
  return block.subarray(used - ID_BYTES, used);
}

function base32(bytes: Uint8Array): string {
  const alphabet = 'abcdefghijklmnopqrstuvwxyz234567';
  let text = '';
  let bits = 0;
  let value = 0;
  for (const byte of bytes) {
    value = (value << 8) | byte;
    for (bits += 8; bits >= 5; bits -= 5) text += alphabet[(value >>> (bits - 5)) & 31];
    value &= (1 << bits) - 1;
  }
  return bits > 0 ? text + alphabet[(value << (5 - bits)) & 31] : text;
}
