import { isIP } from 'node:net';
import { CidrIndex } from '../cidr-index.ts';
import { type Cidr, formatCidr, formatIp, inCidr, maskIp, parseCidr, parseIp } from '../ip.ts';
import { classifyIp } from '../ip-class.ts';
import type { Findings } from './findings.ts';
import { Random } from './random.ts';
import { isWithin, referenceClass } from './reference-address.ts';

/** Bytes with which interesting addresses begin. */
const HEADS = [
  [0],
  [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff],
  [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
  [0, 0x64, 0xff, 0x9b, 0, 0, 0, 0, 0, 0, 0, 0],
  [0, 0x64, 0xff, 0x9b, 0, 1],
  [0x20, 0x01, 0, 0],
  [0x20, 0x01],
  [0x20, 0x02],
  [0xfd, 0, 0x0e, 0xc2],
  [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0x5e, 0xfe],
  [0x26, 6, 0, 0, 0, 0, 0, 0, 2, 0, 0x5e, 0xfe],
];
const V4 = [10, 100, 127, 168, 169, 172, 192, 198, 203, 224, 240, 0, 1, 255, 254, 63, 64, 129, 16];
const MAPPED = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff];

/** Text of addresses, their classes and ranges, against Node's own readers. */
export function fuzzAddresses(cases: number, seed: number): Findings {
  const random = new Random(seed);
  const differences: string[] = [];
  const seen = new Map<string, number>();
  const check = (what: string, ours: unknown, theirs: unknown): void => {
    if (ours !== theirs) differences.push(`${what}: ${String(ours)} is not ${String(theirs)}`);
  };
  let ranges = rangesOf(random);
  for (let i = 0; i < cases; i++) {
    if (i % 100 === 0) ranges = rangesOf(random);
    const bytes = addressOf(random);
    const text = formatIp(bytes);
    check(`${text} read again`, formatIp(parseIp(text) ?? new Uint8Array()), text);
    check(`${text} as Node reads it`, isIP(text) > 0, true);
    const kind = classifyIp(bytes);
    check(`the class of ${text}`, kind, referenceClass(text));
    seen.set(kind, (seen.get(kind) ?? 0) + 1);
    const odd = changed(random, text);
    check(
      `whether "${odd}" is one`,
      parseIp(odd) !== undefined,
      isIP(odd) > 0 && !odd.includes('%'),
    );
    const holding = ranges.cidrs.filter((cidr) => isWithin(text, formatCidr(cidr)));
    const widest = holding.toSorted((a, b) => b.bits - a.bits).map(formatCidr);
    check(`what holds ${text}`, ranges.index.holding(bytes).join(' '), widest.join(' '));
    const plain = ranges.cidrs.filter((cidr) => inCidr(bytes, cidr)).length;
    check(`how many hold ${text}`, plain, holding.length);
  }
  return { cases, differences, seen };
}

function addressOf(random: Random): Uint8Array {
  const bytes = Uint8Array.from(random.times(16, () => random.pick([0, 0, random.below(256)])));
  if (random.once(3)) bytes.set(random.pick(HEADS));
  if (!random.once(3))
    bytes.set(
      random.times(4, () => random.pick(V4)),
      12,
    );
  if (random.once(2)) bytes.set(MAPPED);
  if (random.once(4))
    bytes.set(
      random.times(4, () => random.pick(V4)),
      2,
    );
  if (bytes[10] === 0xff && bytes[11] === 0xff && random.once(2)) bytes.set(MAPPED);
  return bytes;
}

function rangesOf(random: Random): { cidrs: Cidr[]; index: CidrIndex<string> } {
  const texts = random.times(10, () => {
    const bytes = addressOf(random);
    const v4 = !formatIp(bytes).includes(':');
    const bits = v4 ? 96 + random.below(33) : random.below(129);
    return formatCidr({ base: maskIp(bytes, bits), bits });
  });
  const cidrs = [...new Set(texts)].map(parseCidr).filter((cidr) => cidr !== undefined);
  const index = CidrIndex.of(
    cidrs.map((cidr) => [cidr, formatCidr(cidr)] as const),
    ([text = '']) => text,
  );
  return { cidrs, index };
}

function changed(random: Random, text: string): string {
  const at = random.below(text.length + 1);
  const letter = random.once(3) ? '' : random.pick('0123456789abcdfFG:.%x '.split(''));
  return `${text.slice(0, at)}${letter}${text.slice(at + random.below(2))}`;
}
