/** No credential of a protocol that is carried in a header comes near it. */
const SECRET_MAX_BYTES = 8_192;
/** A certificate with its chain and its key. */
export const PEM_MAX_BYTES = 65_536;

/** What a slot is for, and so what it may hold. */
export type SecretUse = 'header' | 'pem';

/** A value that could end a header early, or would arrive as other bytes than it was written as. */
export class ControlCharacter extends Error {
  override readonly message = 'holds a control or non-ASCII character';
}

/**
 * A value as it may be used: one line of visible ASCII for a header, at most 8 KiB; PEM text for a certificate or key, at most 64 KiB.
 * @throws {ControlCharacter | Error} which says why, without the value
 */
export function usableValue(value: string, use: SecretUse = 'header'): string {
  const most = use === 'header' ? SECRET_MAX_BYTES : PEM_MAX_BYTES;
  if (value === '') throw new Error('empty');
  if (Buffer.byteLength(value) > most) throw new Error(`larger than ${most} bytes`);
  if (use === 'header' ? /[^\x20-\x7e]/.test(value) : /[^\x20-\x7e\r\n]/.test(value))
    throw new ControlCharacter();
  if (use === 'pem' && !value.includes('-----BEGIN ')) throw new Error('is not PEM');
  return value;
}
