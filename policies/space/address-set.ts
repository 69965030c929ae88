import { type Cidr, embeddedV4, parseIp } from '../ip.ts';
import { addressClassRanges, classifyIp, type IpClass, isTransitionForm } from '../ip-class.ts';

/** Addresses as disjoint ranges of 128-bit numbers, ascending. */
export type AddressSet = readonly AddressRange[];

/** Both ends are included. */
export interface AddressRange {
  readonly first: bigint;
  readonly last: bigint;
}

function rangeOf({ base, bits }: Cidr): AddressRange {
  const first = toNumber(base);
  return { first, last: first | ((1n << BigInt(128 - bits)) - 1n) };
}

/** The union of ranges that may overlap. */
export function addressSet(ranges: readonly AddressRange[]): AddressSet {
  const merged: AddressRange[] = [];
  for (const range of ranges.toSorted((a, b) => ascending(a.first, b.first))) {
    const before = merged.at(-1);
    if (!before || range.first > before.last + 1n) merged.push(range);
    else if (range.last > before.last) merged[merged.length - 1] = { ...before, last: range.last };
  }
  return merged;
}

export function unionOfCidrs(cidrs: readonly Cidr[]): AddressSet {
  return addressSet(cidrs.map(rangeOf));
}

/** What is in `a` and not in `b`. */
export function withoutAddresses(a: AddressSet, b: AddressSet): AddressSet {
  const left: AddressRange[] = [];
  let next = 0;
  for (const { first, last } of a) {
    let from = first;
    while (next < b.length && (b[next]?.last ?? 0n) < from) next++;
    for (const cut of b.slice(next)) {
      if (cut.first > last) break;
      if (cut.first > from) left.push({ first: from, last: cut.first - 1n });
      from = cut.last + 1n;
    }
    if (from <= last) left.push({ first: from, last });
  }
  return left;
}

/** What is in both. */
export function commonAddresses(a: AddressSet, b: AddressSet): AddressSet {
  const both: AddressRange[] = [];
  for (let i = 0, j = 0; i < a.length && j < b.length; ) {
    const [left, right] = [a[i], b[j]];
    if (!left || !right) break;
    const first = left.first > right.first ? left.first : right.first;
    const last = left.last < right.last ? left.last : right.last;
    if (first <= last) both.push({ first, last });
    if (left.last < right.last) i++;
    else j++;
  }
  return both;
}

export const EVERY_ADDRESS: AddressSet = [{ first: 0n, last: (1n << 128n) - 1n }];

/** The 16 bytes of an address of the set that `fits`, if there is one. */
export function addressIn(set: AddressSet, fits: AddressKind): Uint8Array | undefined {
  for (const range of commonAddresses(set, fits.ranges)) {
    for (const number of candidates(range)) {
      const address = toBytes(number);
      if (fits.holds(address)) return address;
    }
  }
  return undefined;
}

/** A set of addresses of which ISATAP, which hides an IPv4 address in any other, may leave some out. */
export interface AddressKind {
  readonly ranges: AddressSet;
  readonly holds: (address: Uint8Array) => boolean;
}

const V4_EDGES = addressClassRanges()
  .filter(({ base }) => embeddedV4(base))
  .map(rangeOf)
  .flatMap(({ first, last }) => [first & 0xffff_ffffn, (last + 1n) & 0xffff_ffffn]);
/** 64:ff9b::/96 gives the address inside its class (RFC 6052). */
const NAT64 = toNumber(parseIp('64:ff9b::') ?? new Uint8Array(16));
/** Ranges within each of which all addresses but ISATAP's are of one class. */
const ELEMENTARY = elementary();

/** Addresses that may stand in a request: no transition form but IPv4's own spelling, and of a class that some rule opens. */
export const WRITABLE: AddressKind = writable('public', 'private');
export const WRITABLE_PUBLIC: AddressKind = writable('public');
export const WRITABLE_PRIVATE: AddressKind = writable('private');
/** Addresses that a name may lead to. */
export const REACHABLE: AddressKind = kindOf((address) => classifyIp(address) === 'public');

function writable(...classes: readonly IpClass[]): AddressKind {
  return kindOf(
    (address) =>
      classes.includes(classifyIp(address)) &&
      (embeddedV4(address) !== undefined || !isTransitionForm(address)),
  );
}

function kindOf(holds: (address: Uint8Array) => boolean): AddressKind {
  return { ranges: addressSet(ELEMENTARY.filter(({ first }) => holds(toBytes(first)))), holds };
}

function elementary(): AddressRange[] {
  const edges = new Set([0n, 1n << 128n]);
  for (const { first, last } of addressClassRanges().map(rangeOf)) edges.add(first).add(last + 1n);
  for (const edge of V4_EDGES) edges.add(NAT64 | edge);
  const sorted = [...edges].toSorted(ascending);
  return sorted.slice(0, -1).map((first, i) => ({ first, last: (sorted[i + 1] ?? 0n) - 1n }));
}

/** The beginning of a range; should that be ISATAP, what stands behind it, and one of each class inside it. */
function candidates({ first, last }: AddressRange): bigint[] {
  const block = first & ~0xffff_ffffn;
  return [first, block + (1n << 32n), ...V4_EDGES.map((edge) => block | edge)].filter(
    (number) => number >= first && number <= last,
  );
}

function toNumber(address: Uint8Array): bigint {
  let number = 0n;
  for (const byte of address) number = (number << 8n) | BigInt(byte);
  return number;
}

function toBytes(number: bigint): Uint8Array {
  const bytes = new Uint8Array(16);
  for (let i = 15, rest = number; i >= 0; i--, rest >>= 8n) bytes[i] = Number(rest & 0xffn);
  return bytes;
}

function ascending(a: bigint, b: bigint): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
