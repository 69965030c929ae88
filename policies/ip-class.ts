import { CidrIndex } from './cidr-index.ts';
import { type Cidr, embeddedV4, inCidr, mapped, parseCidr } from './ip.ts';

/** What kind of place an address is. Only `public` may be reached by a rule's host. */
export type IpClass =
  | 'public'
  | 'private'
  | 'loopback'
  | 'link-local'
  | 'metadata'
  | 'multicast'
  | 'unspecified'
  | 'reserved';

/**
 * The kind of the 16 bytes that would be dialled. Forms that carry an IPv4 address (mapped, compatible, NAT64, 6to4, Teredo,
 * ISATAP) are unwrapped and the address inside decides; what no registry calls globally reachable is not public.
 * Documentation ranges count as public: nothing answers there but a test.
 */
export function classifyIp(address: Uint8Array): IpClass {
  const kind = CLASSES.innermost(address);
  if (kind === 'metadata') return kind;
  return embeddedV4(address) ? (kind ?? 'public') : (carriedClass(address) ?? kind ?? 'reserved');
}

/** Every range that `classifyIp` tells apart; between their edges only the addresses inside transition forms differ. */
export function addressClassRanges(): Cidr[] {
  const tables = [...V4_CLASSES, ...V6_CLASSES].map(([range]) => range);
  return [...METADATA, ...tables, ...Object.values(RANGE)];
}

/** Whether an IPv6 address is another spelling of an IPv4 one. */
export function isTransitionForm(address: Uint8Array): boolean {
  return (
    embeddedV4(address) !== undefined || TRANSITIONS.some(({ inner }) => inner(address).length > 0)
  );
}

/** The class of an IPv6 address that carries IPv4 ones, where they decide. */
function carriedClass(address: Uint8Array): IpClass | undefined {
  for (const { inner, whenPublic } of TRANSITIONS) {
    const inside = inner(address);
    const worst = inside.map(classifyIp).find((found) => found !== 'public');
    if (worst) return worst;
    if (inside.length > 0 && whenPublic) return whenPublic;
  }
  return undefined;
}

interface Transition {
  /** The IPv4 addresses inside, as 16 bytes; none where the address is not of this form. */
  readonly inner: (address: Uint8Array) => Uint8Array[];
  /** The class where those are public; undefined: as the rest of the address says. */
  readonly whenPublic?: IpClass;
}

const RANGE = {
  compatible: cidr('::/96'),
  unspecifiedAndLoopback: cidr('::/127'),
  nat64: cidr('64:ff9b::/96'),
  localNat64: cidr('64:ff9b:1::/48'),
  sixToFour: cidr('2002::/16'),
  teredo: cidr('2001::/32'),
};

const TRANSITIONS: readonly Transition[] = [
  {
    // :: and ::1 are no IPv4-compatible addresses (RFC 4291, 2.5.5.1).
    inner: (a) =>
      inCidr(a, RANGE.compatible) && !inCidr(a, RANGE.unspecifiedAndLoopback) ? [v4At(a, 12)] : [],
    whenPublic: 'reserved',
  },
  { inner: (a) => (inCidr(a, RANGE.nat64) ? [v4At(a, 12)] : []), whenPublic: 'public' },
  { inner: (a) => (inCidr(a, RANGE.localNat64) ? [v4At(a, 12)] : []), whenPublic: 'private' },
  { inner: (a) => (inCidr(a, RANGE.sixToFour) ? [v4At(a, 2)] : []), whenPublic: 'reserved' },
  {
    // Teredo carries its server as it is and its client with every bit turned (RFC 4380).
    inner: (a) =>
      inCidr(a, RANGE.teredo)
        ? [
            v4At(a, 4),
            v4At(
              a.map((b) => b ^ 0xff),
              12,
            ),
          ]
        : [],
    whenPublic: 'reserved',
  },
  { inner: (a) => (isIsatap(a) ? [v4At(a, 12)] : []) },
];

function isIsatap(a: Uint8Array): boolean {
  return ((a[8] ?? 0) & 0xfc) === 0 && a[9] === 0 && a[10] === 0x5e && a[11] === 0xfe;
}

function v4At(address: Uint8Array, offset: number): Uint8Array {
  return mapped(address.subarray(offset, offset + 4));
}

const METADATA = [
  '169.254.169.254/32',
  '169.254.169.253/32',
  '169.254.170.2/32',
  '169.254.170.23/32',
  '100.100.100.200/32',
  '168.63.129.16/32',
  '192.0.0.192/32',
  'fd00:ec2::/32',
  'fd20:ce::254/128',
].map(cidr);

const V4_CLASSES = table([
  ['0.0.0.0/8', 'unspecified'],
  ['10.0.0.0/8', 'private'],
  ['100.64.0.0/10', 'private'],
  ['127.0.0.0/8', 'loopback'],
  ['169.254.0.0/16', 'link-local'],
  ['172.16.0.0/12', 'private'],
  ['192.0.0.0/24', 'reserved'],
  ['192.88.99.0/24', 'reserved'],
  ['192.168.0.0/16', 'private'],
  ['198.18.0.0/15', 'reserved'],
  ['224.0.0.0/4', 'multicast'],
  ['240.0.0.0/4', 'reserved'],
]);

const V6_CLASSES = table([
  ['::/128', 'unspecified'],
  ['::1/128', 'loopback'],
  ['fe80::/10', 'link-local'],
  ['fec0::/10', 'private'],
  ['fc00::/7', 'private'],
  ['ff00::/8', 'multicast'],
  ['2001::/23', 'reserved'],
  ['3fff::/20', 'reserved'],
  // The only block that IANA hands out for global use; whatever is outside of it is reserved.
  ['2000::/3', 'public'],
]);

type Table = readonly (readonly [Cidr, IpClass])[];

function table(rows: readonly (readonly [string, IpClass])[]): Table {
  return rows.map(([text, is]) => [cidr(text), is]);
}

/** Of ranges that nest the narrower one counts. */
const CLASSES = CidrIndex.of(
  [...METADATA.map((range) => [range, 'metadata'] as const), ...V4_CLASSES, ...V6_CLASSES],
  ([kind]) => kind ?? 'reserved',
);

function cidr(text: string): Cidr {
  const parsed = parseCidr(text);
  if (!parsed) throw new Error(`unreachable: ${text} is a range`);
  return parsed;
}
