import assert from 'node:assert/strict';
import { test } from 'node:test';
import { TlsRecords } from './tls-records.ts';

const record = (type: number, length: number, version = [3, 3]): Buffer =>
  Buffer.concat([Buffer.from([type, ...version, length >> 8, length & 255]), Buffer.alloc(length)]);

const CASES: readonly (readonly [what: string, bytes: Buffer, taken: boolean])[] = [
  ['nothing', Buffer.alloc(0), true],
  [
    'every kind of record, one behind the other',
    Buffer.concat([20, 21, 22, 23].map((type) => record(type, 7))),
    true,
  ],
  ['the longest of TLS 1.2', record(23, 18_432), true],
  ['the version of a first hello', record(22, 9, [3, 1]), true],
  ['a longer one', record(23, 18_433), false],
  ['an empty one', record(23, 0), false],
  ['another kind', record(24, 7), false],
  ['another version', record(23, 7, [2, 0]), false],
  ['a version that is still to come', record(23, 7, [3, 5]), false],
  ['plain HTTP', Buffer.from('GET /secret HTTP/1.1\r\n'), false],
  [
    'plain HTTP behind a record',
    Buffer.concat([record(23, 7), Buffer.from('CONNECT evil.test:443')]),
    false,
  ],
  ['SSH', Buffer.from('SSH-2.0-x\r\n'), false],
];
for (const [what, bytes, taken] of CASES)
  test(`${taken ? 'TLS' : 'no TLS'}: ${what}, whole and byte by byte`, () => {
    assert.equal(new TlsRecords().take(bytes), taken);
    const records = new TlsRecords();
    assert.equal(
      Array.from(bytes).every((byte) => records.take(Buffer.from([byte]))),
      taken,
    );
  });
