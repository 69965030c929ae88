/** For tests alone. Other spellings of a base64url part of a token. */

const ALPHABET = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_';

/** Sets a bit of the last character that no byte has, where there is one; otherwise adds a character of no bits. */
export function respelled(part: string): string {
  if (part.length % 4 === 0) return `${part}A`;
  return part.slice(0, -1) + ALPHABET[ALPHABET.indexOf(part.at(-1) ?? '') ^ 1];
}

/** S + L is another number with the same meaning to a verifier of Ed25519 that does not check its range (RFC 8032 5.1.7). */
export function malleated(signature: string): string {
  const order = 2n ** 252n + 27742317777372353535851937790883648493n;
  const bytes = Buffer.from(signature, 'base64url');
  const s = BigInt(`0x${Buffer.from(bytes.subarray(32).toReversed()).toString('hex')}`) + order;
  const raised = Buffer.from(s.toString(16).padStart(64, '0'), 'hex').toReversed();
  return Buffer.concat([bytes.subarray(0, 32), raised]).toString('base64url');
}

/** A token with another text for one of its parts: 0 is the header, 1 the payload, 2 the signature. */
export function withPart(token: string, at: number, change: (part: string) => string): string {
  return token
    .split('.')
    .map((part, index) => (index === at ? change(part) : part))
    .join('.');
}
