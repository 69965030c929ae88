/**
 * Addresses as 16 bytes: IPv6 as it is, IPv4 in its mapped form (::ffff:a.b.c.d), so that one address has one value.
 * Text is read in the strict forms of RFC 4291 and dotted quads alone; 127.1, 0x7f.1, 0177.0.0.1 and zones are not addresses.
 */

const V4 = /^(0|[1-9]\d{0,2})\.(0|[1-9]\d{0,2})\.(0|[1-9]\d{0,2})\.(0|[1-9]\d{0,2})$/;
const HEXTET = /^[0-9a-f]{1,4}$/i;

/** The 16 bytes of an address, or undefined for any text that is not one in a strict form. */
export function parseIp(text: string): Uint8Array | undefined {
  const v4 = quad(text);
  if (v4) return mapped(v4);
  return text.includes(':') && text.length <= 45 ? parseV6(text) : undefined;
}

/** The shortest text (RFC 5952); a mapped address is a dotted quad. */
export function formatIp(bytes: Uint8Array): string {
  const v4 = embeddedV4(bytes);
  if (v4) return v4.join('.');
  const groups = Array.from({ length: 8 }, (_, i) => groupAt(bytes, i));
  const { start, length } = longestZeros(groups);
  const text = (part: readonly number[]) => part.map((group) => group.toString(16)).join(':');
  if (length < 2) return text(groups);
  return `${text(groups.slice(0, start))}::${text(groups.slice(start + length))}`;
}

/** The four bytes of an IPv4 address, or undefined for an IPv6 one. */
export function embeddedV4(bytes: Uint8Array): Uint8Array | undefined {
  for (let i = 0; i < 10; i++) if (bytes[i] !== 0) return undefined;
  return bytes[10] === 0xff && bytes[11] === 0xff ? bytes.subarray(12) : undefined;
}

/** A range of addresses. `bits` counts from the first of 128: an IPv4 /8 has 104. */
export interface Cidr {
  readonly base: Uint8Array;
  readonly bits: number;
}

/**
 * `10.0.0.0/8` or `2001:db8::/32`. Undefined without a prefix length, with bits set behind it, and for an IPv6 range that
 * reaches into mapped IPv4 addresses: those have one spelling.
 */
export function parseCidr(text: string): Cidr | undefined {
  const match = /^([0-9a-f:.]+)\/(0|[1-9]\d{0,2})$/.exec(text);
  const base = parseIp(match?.[1] ?? '');
  if (!match || !base) return undefined;
  const isV4 = !text.includes(':');
  if (!isV4 && embeddedV4(base)) return undefined;
  const bits = Number(match[2]) + (isV4 ? 96 : 0);
  if (bits > 128 || !sameBytes(maskIp(base, bits), base)) return undefined;
  if (!isV4 && bits < 96 && sameBytes(maskIp(MAPPED, bits), base)) return undefined;
  return { base, bits };
}

/** As `parseCidr` reads it. */
export function formatCidr({ base, bits }: Cidr): string {
  return `${formatIp(base)}/${embeddedV4(base) ? bits - 96 : bits}`;
}

export function inCidr(address: Uint8Array, { base, bits }: Cidr): boolean {
  const whole = bits >> 3;
  for (let i = 0; i < whole; i++) if (address[i] !== base[i]) return false;
  const rest = bits & 7;
  return rest === 0 || ((address[whole] ?? 0) ^ (base[whole] ?? 0)) >> (8 - rest) === 0;
}

/** Whether every address of `inner` is in `outer`. */
export function cidrCovers(outer: Cidr, inner: Cidr): boolean {
  return outer.bits <= inner.bits && inCidr(inner.base, outer);
}

/** `address` with all but its first `bits` bits cleared. */
export function maskIp(address: Uint8Array, bits: number): Uint8Array {
  return address.map((byte, i) => {
    const keep = Math.min(8, Math.max(0, bits - i * 8));
    return byte & (0xff00 >> keep) & 0xff;
  });
}

export function sameBytes(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((byte, i) => byte === b[i]);
}

export function mapped(v4: ArrayLike<number>): Uint8Array {
  const bytes = new Uint8Array(16);
  bytes[10] = 0xff;
  bytes[11] = 0xff;
  bytes.set(v4, 12);
  return bytes;
}

const MAPPED = mapped([0, 0, 0, 0]);

function quad(text: string): number[] | undefined {
  const match = V4.exec(text);
  const parts = match?.slice(1).map(Number);
  return parts?.every((part) => part <= 255) ? parts : undefined;
}

function parseV6(text: string): Uint8Array | undefined {
  const halves = text.split('::');
  if (halves.length > 2) return undefined;
  const [head, tail] = halves;
  const left = groupsOf(head ?? '', tail === undefined);
  const right = tail === undefined ? [] : groupsOf(tail, true);
  if (!left || !right) return undefined;
  const count = left.length + right.length;
  // `::` stands for at least one group.
  if (tail === undefined ? count !== 8 : count > 7) return undefined;
  const bytes = new Uint8Array(16);
  left.forEach((group, i) => putGroup(bytes, i, group));
  right.forEach((group, i) => putGroup(bytes, 8 - right.length + i, group));
  return bytes;
}

/** The 16-bit groups of one side of `::`; a dotted quad may be the very last. */
function groupsOf(text: string, mayEndInQuad: boolean): number[] | undefined {
  if (text === '') return [];
  const groups: number[] = [];
  const parts = text.split(':');
  for (const [i, part] of parts.entries()) {
    const v4 = mayEndInQuad && i === parts.length - 1 ? quad(part) : undefined;
    if (v4) {
      const [a = 0, b = 0, c = 0, d = 0] = v4;
      groups.push((a << 8) | b, (c << 8) | d);
    } else if (HEXTET.test(part)) {
      groups.push(Number.parseInt(part, 16));
    } else return undefined;
  }
  return groups;
}

function putGroup(bytes: Uint8Array, index: number, group: number): void {
  bytes[index * 2] = group >> 8;
  bytes[index * 2 + 1] = group & 0xff;
}

function groupAt(bytes: Uint8Array, index: number): number {
  return ((bytes[index * 2] ?? 0) << 8) | (bytes[index * 2 + 1] ?? 0);
}

function longestZeros(groups: readonly number[]): { start: number; length: number } {
  let best = { start: 0, length: 0 };
  for (let start = 0; start < groups.length; start++) {
    let length = 0;
    while (groups[start + length] === 0) length++;
    if (length > best.length) best = { start, length };
  }
  return best;
}
