import assert from 'node:assert/strict';
import { test } from 'node:test';
import { formatCidr, formatIp, inCidr, parseCidr, parseIp } from './ip.ts';
import { classifyIp, isTransitionForm } from './ip-class.ts';

const texts = [
  ['1.2.3.4', '1.2.3.4'],
  ['0.0.0.0', '0.0.0.0'],
  ['::', '::'],
  ['::1', '::1'],
  ['1::', '1::'],
  ['2001:DB8:0:0:0:0:0:1', '2001:db8::1'],
  ['2001:db8:0:1:0:0:0:1', '2001:db8:0:1::1'],
  ['2001:0:0:1:0:0:0:1', '2001:0:0:1::1'],
  ['1:0:2:3:4:5:6:7', '1:0:2:3:4:5:6:7'],
  ['::ffff:1.2.3.4', '1.2.3.4'],
  ['::ffff:102:304', '1.2.3.4'],
  ['64:ff9b::1.2.3.4', '64:ff9b::102:304'],
  ['1:2:3:4:5:6:1.2.3.4', '1:2:3:4:5:6:102:304'],
] as const;
for (const [text, expected] of texts) {
  test(`${text} is ${expected}`, () => {
    const bytes = parseIp(text);
    assert.ok(bytes);
    assert.equal(bytes.length, 16);
    assert.equal(formatIp(bytes), expected);
    assert.deepEqual(parseIp(formatIp(bytes)), bytes);
  });
}

const notAddresses = [
  '',
  '1.2.3',
  '1.2.3.4.5',
  '01.2.3.4',
  '1.2.3.256',
  '0x1.2.3.4',
  '1.2.3.4 ',
  ' 1.2.3.4',
  '1.2.3.-4',
  '1.2.3.4/8',
  ':',
  ':::',
  '1::2::3',
  '1:2:3:4:5:6:7',
  '1:2:3:4:5:6:7:8:9',
  '1:2:3:4:5:6:7:8::',
  '::1:2:3:4:5:6:7:8',
  '12345::',
  'g::',
  '::1%lo',
  '[::1]',
  '1.2.3.4::',
  '::1.2.3.4:5',
  '::1.2.3',
  ':1:2:3:4:5:6:7:8',
  '1:2:3:4:5:6:7:',
  '::01.2.3.4',
];
for (const text of notAddresses) {
  test(`${JSON.stringify(text)} is not an address`, () => assert.equal(parseIp(text), undefined));
}

const classes = [
  [
    'public',
    '8.8.8.8',
    '203.0.113.7',
    '192.0.2.1',
    '198.51.100.1',
    '2001:db8::1',
    '2606:4700::1111',
    '64:ff9b::808:808',
    '192.0.1.1',
    '172.32.0.1',
    '100.128.0.1',
    '223.255.255.255',
  ],
  [
    'private',
    '10.0.0.1',
    '172.16.0.1',
    '172.31.255.255',
    '192.168.0.1',
    '100.64.0.1',
    'fd00::1',
    'fc00::1',
    'fec0::1',
    '64:ff9b:1::808:808',
  ],
  ['loopback', '127.0.0.1', '127.255.255.255', '::1'],
  ['link-local', '169.254.0.1', 'fe80::1', 'febf::1'],
  [
    'metadata',
    '169.254.169.254',
    '169.254.170.2',
    '169.254.170.23',
    '100.100.100.200',
    '168.63.129.16',
    '192.0.0.192',
    'fd00:ec2::254',
    'fd20:ce::254',
  ],
  ['multicast', '224.0.0.1', '239.255.255.255', 'ff02::1'],
  ['unspecified', '0.0.0.0', '0.1.2.3', '::'],
  [
    'reserved',
    '240.0.0.1',
    '255.255.255.255',
    '198.18.0.1',
    '192.0.0.1',
    '192.88.99.1',
    '2001:20::1',
    '3fff::1',
    '100::1',
    '4000::1',
    '5f00::1',
    '8000::1',
    '2002:808:808::',
    '::808:808',
    '2001:0:808:808::f7f7:f7f7',
  ],
] as const;
for (const [expected, ...addresses] of classes) {
  for (const text of addresses) {
    test(`${text} is ${expected}`, () => assert.equal(classOf(text), expected));
  }
}

const forms = [
  ['mapped', (v4: string) => `::ffff:${v4}`],
  ['compatible', (v4: string) => `::${v4}`],
  ['NAT64', (v4: string) => `64:ff9b::${v4}`],
  ['local NAT64', (v4: string) => `64:ff9b:1::${v4}`],
  ['6to4', (v4: string) => `2002:${hex(v4)}::1`],
  ['Teredo server', (v4: string) => `2001:0:${hex(v4)}::f7f7:f7f7`],
  ['Teredo client', (v4: string) => `2001:0:808:808::${hex(v4, 0xff)}`],
  ['ISATAP', (v4: string) => `2001:db8::5efe:${v4}`],
  ['ISATAP with the universal bit', (v4: string) => `2001:db8::200:5efe:${v4}`],
] as const;
for (const [form, make] of forms) {
  for (const v4 of [
    '127.0.0.1',
    '10.0.0.1',
    '169.254.169.254',
    '169.254.1.1',
    '224.0.0.1',
    '192.168.1.1',
  ]) {
    test(`${v4} is what it is inside of ${form}, too`, () => {
      assert.equal(classOf(make(v4)), classOf(v4));
    });
  }
}

test('transition forms are told apart from addresses of their own', () => {
  for (const text of [
    '::ffff:8.8.8.8',
    '64:ff9b::808:808',
    '2002:808:808::',
    '::8.8.8.8',
    '2001:0:1::1',
  ]) {
    assert.equal(isTransitionForm(bytesOf(text)), true, text);
  }
  for (const text of ['2001:db8::1', '::1', '::', 'fd00::1']) {
    assert.equal(isTransitionForm(bytesOf(text)), false, text);
  }
});

const ranges = [
  ['10.0.0.0/8', '10.255.255.255', '11.0.0.0'],
  ['192.0.2.128/25', '192.0.2.128', '192.0.2.127'],
  ['0.0.0.0/0', '255.255.255.255', '::1'],
  ['203.0.113.7/32', '203.0.113.7', '203.0.113.6'],
  ['2001:db8::/33', '2001:db8:7fff::', '2001:db8:8000::'],
] as const;
for (const [text, inside, outside] of ranges) {
  test(`${text} holds ${inside} and not ${outside}`, () => {
    const range = parseCidr(text);
    assert.ok(range);
    assert.equal(inCidr(bytesOf(inside), range), true);
    assert.equal(inCidr(bytesOf(outside), range), false);
    assert.equal(formatCidr(range), text);
  });
}
for (const text of [
  '10.0.0.0',
  '10.0.0.0/33',
  '10.0.0.1/8',
  '10.0.0.0/08',
  '2001:db8::/129',
  '::ffff:0:0/96',
  '::ffff:10.0.0.0/104',
  '::/0',
  '::/64',
  '/8',
  '10.0.0.0/8 ',
]) {
  test(`${text} is not a range in its one spelling`, () =>
    assert.equal(parseCidr(text), undefined));
}

function classOf(text: string): string {
  return classifyIp(bytesOf(text));
}

function bytesOf(text: string): Uint8Array {
  const bytes = parseIp(text);
  assert.ok(bytes, text);
  return bytes;
}

function hex(v4: string, turn = 0): string {
  const [a = 0, b = 0, c = 0, d = 0] = v4.split('.').map((part) => Number(part) ^ turn);
  return `${((a << 8) | b).toString(16)}:${((c << 8) | d).toString(16)}`;
}
