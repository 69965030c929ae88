import assert from 'node:assert/strict';
import { test } from 'node:test';
import { bits, octets, oid, sequence, tagged, time, unsigned } from './der.ts';

const hex = (bytes: Buffer) => bytes.toString('hex');

test('lengths take the fewest bytes', () => {
  const cases = [
    [0, '0400'],
    [127, '047f'],
    [128, '048180'],
    [255, '0481ff'],
    [256, '04820100'],
    [65_536, '0483010000'],
  ] as const;
  for (const [length, head] of cases)
    assert.equal(hex(octets(Buffer.alloc(length))).slice(0, head.length), head);
});

test('numbers have no byte too many and never turn negative', () => {
  const cases = [
    ['00', '020100'],
    ['000001', '020101'],
    ['7f', '02017f'],
    ['80', '02020080'],
    ['00ff', '020200ff'],
  ] as const;
  for (const [bytes, der] of cases) assert.equal(hex(unsigned(Buffer.from(bytes, 'hex'))), der);
});

test('identifiers, times and bits are as X.690 has them', () => {
  assert.equal(hex(oid('2.5.29.15')), '0603551d0f');
  assert.equal(hex(oid('1.2.840.10045.4.3.2')), '06082a8648ce3d040302');
  assert.equal(time(new Date('2026-01-02T03:04:05.678Z')).toString('latin1', 2), '260102030405Z');
  assert.equal(time(new Date('2050-01-02T03:04:05Z')).toString('latin1', 2), '20500102030405Z');
  assert.equal(time(new Date('2050-01-02T03:04:05Z'))[0], 0x18);
  assert.equal(hex(bits(Buffer.from([0b1000_0000]), 7)), '03020780');
  assert.equal(hex(sequence(tagged(0x80, Buffer.from([1])))), '3003800101');
});
