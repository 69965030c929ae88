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

const ALPHABET = Buffer.from('abcdefghijklmnopqrstuvwxyz234567');
const ID_LETTERS = Math.ceil((ID_BYTES * 8) / 5);
/** Made into text as a whole: a text that grows letter by letter is a list of its pieces. */
const letters = Buffer.alloc(ID_LETTERS);

/** 16 bytes as 26 letters, of which the last holds three bits. */
function base32(bytes: Uint8Array): string {
  let at = 0;
  let bits = 0;
  let value = 0;
  for (const byte of bytes) {
    value = (value << 8) | byte;
    for (bits += 8; bits >= 5; bits -= 5)
      letters[at++] = ALPHABET[(value >>> (bits - 5)) & 31] ?? 0;
    value &= (1 << bits) - 1;
  }
  letters[at] = ALPHABET[(value << (5 - bits)) & 31] ?? 0;
  return letters.toString('latin1');
}
