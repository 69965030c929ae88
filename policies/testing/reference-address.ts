import { BlockList, isIPv4 } from 'node:net';

/** Ranges by Node's own reader, which shares no code with ours. Kept, since making one is slow. */
const RANGES = new Map<string, BlockList>();
const RANGES_MAX = 20_000;

/** Whether `address`, as text, is in `cidr`. An IPv4 address is in no IPv6 range. */
export function isWithin(address: string, cidr: string): boolean {
  const v4 = isIPv4(address);
  if (v4 !== !cidr.includes(':')) return false;
  let range = RANGES.get(cidr);
  if (!range) {
    const [base = '', bits] = cidr.split('/');
    range = new BlockList();
    range.addSubnet(base, Number(bits), v4 ? 'ipv4' : 'ipv6');
    if (RANGES.size >= RANGES_MAX) RANGES.clear();
    RANGES.set(cidr, range);
  }
  return range.check(address, v4 ? 'ipv4' : 'ipv6');
}

/** The registries again: each kind with its ranges, the first that fits. */
const V4 = [
  [
    'metadata',
    '169.254.169.254/32 169.254.169.253/32 169.254.170.2/32 169.254.170.23/32 100.100.100.200/32 168.63.129.16/32 192.0.0.192/32',
  ],
  ['loopback', '127.0.0.0/8'],
  ['link-local', '169.254.0.0/16'],
  ['private', '10.0.0.0/8 172.16.0.0/12 192.168.0.0/16 100.64.0.0/10'],
  ['unspecified', '0.0.0.0/8'],
  ['multicast', '224.0.0.0/4'],
  ['reserved', '192.0.0.0/24 192.88.99.0/24 198.18.0.0/15 240.0.0.0/4'],
] as const;
const V6 = [
  ['metadata', 'fd00:ec2::/32 fd20:ce::254/128'],
  ['unspecified', '::/128'],
  ['loopback', '::1/128'],
  ['link-local', 'fe80::/10'],
  ['private', 'fec0::/10 fc00::/7'],
  ['multicast', 'ff00::/8'],
] as const;
const V6_LATER = [
  ['reserved', '2001::/23 3fff::/20'],
  ['public', '2000::/3'],
] as const;

/** What kind of place an address is; those that carry an IPv4 address are what that is, or worse. */
export function referenceClass(address: string): string {
  if (isIPv4(address)) return classIn(V4, address) ?? 'public';
  const first = classIn(V6.slice(0, 1), address);
  if (first) return first;
  const groups = groupsOf(address);
  const v4At = (i: number, turn = 0): string => {
    const [high, low] = [(groups[i] ?? 0) ^ turn, (groups[i + 1] ?? 0) ^ turn];
    return [high >> 8, high & 255, low >> 8, low & 255].join('.');
  };
  const carried: [inner: string[], whenPublic: string | undefined][] = [];
  const zeros = groups.slice(0, 6).every((group) => group === 0);
  if (zeros && address !== '::' && address !== '::1') carried.push([[v4At(6)], 'reserved']);
  if (isWithin(address, '64:ff9b::/96')) carried.push([[v4At(6)], 'public']);
  if (isWithin(address, '64:ff9b:1::/48')) carried.push([[v4At(6)], 'private']);
  if (isWithin(address, '2002::/16')) carried.push([[v4At(1)], 'reserved']);
  if (isWithin(address, '2001::/32')) carried.push([[v4At(2), v4At(6, 0xffff)], 'reserved']);
  if (((groups[4] ?? 0) & 0xfcff) === 0 && groups[5] === 0x5efe)
    carried.push([[v4At(6)], undefined]);
  for (const [inner, whenPublic] of carried) {
    const worst = inner.map(referenceClass).find((kind) => kind !== 'public');
    if (worst ?? whenPublic) return worst ?? whenPublic ?? '';
  }
  return classIn(V6, address) ?? classIn(V6_LATER, address) ?? 'reserved';
}

type Rows = readonly (readonly [kind: string, ranges: string])[];

function classIn(rows: Rows, address: string): string | undefined {
  return rows.find(([, ranges]) =>
    ranges.split(' ').some((range) => isWithin(address, range)),
  )?.[0];
}

function groupsOf(address: string): number[] {
  const [head = '', tail] = address.split('::');
  const numbers = (side: string): number[] =>
    side === '' ? [] : side.split(':').map((group) => Number.parseInt(group, 16));
  const [left, right] = [numbers(head), numbers(tail ?? '')];
  return [...left, ...Array.from({ length: 8 - left.length - right.length }, () => 0), ...right];
}
