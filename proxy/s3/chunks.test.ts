import assert from 'node:assert/strict';
import { test } from 'node:test';
import { OutriderError } from '#core/errors';
import { denialOf } from '../refusal.ts';
import { ChunkDecoder, type SignatureChain } from './chunk-decoder.ts';
import { CHUNK_BYTES, ChunkEncoder, encodedLength } from './chunk-encoder.ts';
import { signingKey } from './sigv4.ts';

// The examples of https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-streaming.html and of sigv4-streaming-trailers.html.
const SCOPE = { time: '20130524T000000Z', region: 'us-east-1', service: 's3' };
const KEY = signingKey('wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY', SCOPE);
const SIGNED: SignatureChain = {
  key: KEY,
  scope: SCOPE,
  seed: '4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9',
};
const TRAILED: SignatureChain = {
  key: KEY,
  scope: SCOPE,
  seed: '106e2a8a18243abcf37539882f36619c00e2dfc72633413f02d3b74544bfeb8e',
};
const CRC32C = 'x-amz-checksum-crc32c';
const OBJECT = 'a'.repeat(66_560);

function upload(signatures: readonly string[], trailers = ''): string {
  const [first = '', second = '', last = ''] = signatures;
  return [
    `10000;chunk-signature=${first}\r\n${'a'.repeat(65_536)}\r\n`,
    `400;chunk-signature=${second}\r\n${'a'.repeat(1_024)}\r\n`,
    `0;chunk-signature=${last}\r\n${trailers}\r\n`,
  ].join('');
}
const PUBLISHED = upload([
  'ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648',
  '0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497',
  'b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9',
]);
const TRAILER_SIGNATURE =
  'x-amz-trailer-signature:d81f82fc3505edab99d459891051a732e8730629a2e4a59689829ca17fe2e435\r\n';
const PUBLISHED_TRAILED = (end: string) =>
  upload(
    [
      'b474d8862b1487a5145d686f57f013e54db672cee1c953b3010fb58501ef5aa2',
      '1c1344b170168f8e65b41376b44b20fe354e373826ccbbe2c1d40a8cae51e5c7',
      '2ca2aba2005185cf7159c6277faf83795951dd77a3a99e6e65d5c9f85863f992',
    ],
    `${CRC32C}:sOO8/Q==${end}${TRAILER_SIGNATURE}`,
  );

interface Given {
  readonly chain?: SignatureChain;
  readonly length?: number;
  readonly trailer?: string;
  readonly cut?: number;
}

/** What a decoder gives, fed in pieces of `cut` bytes. */
function decode(text: string, { chain, length = OBJECT.length, trailer, cut = 1_000 }: Given) {
  const out: Buffer[] = [];
  const decoder = new ChunkDecoder({
    chain,
    length,
    trailer,
    onData: (data) => void out.push(Buffer.from(data)),
  });
  const bytes = Buffer.from(text, 'latin1');
  for (let at = 0; at < bytes.length; at += cut) decoder.push(bytes.subarray(at, at + cut));
  decoder.end();
  return { data: Buffer.concat(out).toString('latin1'), trailer: decoder.trailer };
}

function reasonOf(action: () => unknown): string | undefined {
  try {
    action();
  } catch (error) {
    assert.ok(error instanceof OutriderError, String(error));
    return denialOf(error)?.reason;
  }
  return undefined;
}

for (const cut of [1, 2, 63, 64, 65, 65_536, 1_000_000])
  test(`the published upload is read and verified in pieces of ${cut}`, () => {
    assert.equal(decode(PUBLISHED, { chain: SIGNED, cut }).data, OBJECT);
  });

for (const [name, end] of [
  ['CR LF', '\r\n'],
  ['LF CR LF, as AWS has it in its own example', '\n\r\n'],
] as const)
  test(`the published upload with a trailer that ends with ${name}`, () => {
    const given = { chain: TRAILED, trailer: CRC32C };
    assert.deepEqual(decode(PUBLISHED_TRAILED(end), given), { data: OBJECT, trailer: 'sOO8/Q==' });
  });

const plain = (body: string, trailers = '') => `${body}0\r\n${trailers}\r\n`;
const REFUSED: readonly (readonly [string, string, string, Given])[] = [
  ['one byte of data', PUBLISHED.replace('aaa', 'aba'), 'sigv4_chunk_signature', { chain: SIGNED }],
  [
    'the last signature',
    PUBLISHED.replace('b6c6', 'b6c7'),
    'sigv4_chunk_signature',
    { chain: SIGNED },
  ],
  [
    'another seed',
    PUBLISHED,
    'sigv4_chunk_signature',
    { chain: { ...SIGNED, seed: '0'.repeat(64) } },
  ],
  [
    'a chunk without signature',
    plain('3\r\nabc\r\n'),
    'sigv4_chunk_signature',
    { chain: SIGNED, length: 3 },
  ],
  [
    'the value of the trailer',
    PUBLISHED_TRAILED('\r\n').replace('sOO8', 'sOO9'),
    'sigv4_chunk_signature',
    { chain: TRAILED, trailer: CRC32C },
  ],
  [
    'the signature of the trailer is missing',
    PUBLISHED_TRAILED('\r\n').replace(TRAILER_SIGNATURE, ''),
    'sigv4_chunk_signature',
    { chain: TRAILED, trailer: CRC32C },
  ],
  ['the last chunk is missing', '3\r\nabc\r\n', 'chunk_line', { length: 3 }],
  ['something behind the end', `${plain('3\r\nabc\r\n')}x`, 'chunk_line', { length: 3 }],
  ['longer than said', plain('4\r\nabcd\r\n'), 'chunk_line', { length: 3 }],
  ['shorter than said', plain('2\r\nab\r\n'), 'chunk_line', { length: 3 }],
  ['a bare LF', '3\nabc\n0\n\n', 'chunk_line', { length: 3 }],
  ['data that goes on', '3\r\nabcd\r\n0\r\n\r\n', 'chunk_line', { length: 3 }],
  ['a negative size', '-3\r\nabc\r\n0\r\n\r\n', 'chunk_line', { length: 3 }],
  ['a size beyond all', 'fffffffffffff\r\n', 'chunk_line', { length: 3 }],
  ['another extension', '3;a=b\r\nabc\r\n0\r\n\r\n', 'chunk_line', { length: 3 }],
  ['a line without end', '0'.repeat(600), 'chunk_line', { length: 3 }],
  [
    'a trailer not announced',
    plain('3\r\nabc\r\n', 'x-amz-meta-a:b\r\n'),
    'trailer_forbidden',
    { length: 3 },
  ],
  [
    'a trailer twice',
    plain('3\r\nabc\r\n', `${CRC32C}:AAAAAA==\r\n${CRC32C}:AAAAAA==\r\n`),
    'trailer_forbidden',
    { length: 3, trailer: CRC32C },
  ],
  [
    'an announced trailer is missing',
    plain('3\r\nabc\r\n'),
    'trailer_forbidden',
    { length: 3, trailer: CRC32C },
  ],
];
for (const [what, text, reason, given] of REFUSED)
  test(`refused, ${reason}: ${what}`, () => {
    for (const cut of [1, 1_000_000])
      assert.equal(
        reasonOf(() => decode(text, { ...given, cut })),
        reason,
      );
  });

test('control: unsigned chunks with their trailer are read', () => {
  const text = plain('3\r\nabc\r\n1\r\nd\r\n', `${CRC32C}:AAAAAA==\r\n`);
  const read = decode(text, { length: 4, trailer: CRC32C });
  assert.deepEqual(read, { data: 'abcd', trailer: 'AAAAAA==' });
});

for (const length of [0, 1, 9, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 3 * CHUNK_BYTES + 17])
  for (const trailer of [undefined, { name: CRC32C, value: 'AAAAAA==' }])
    test(`${length} bytes${trailer ? ' and a trailer' : ''} are as long as was said, and read back`, () => {
      const out: Buffer[] = [];
      const encoder = new ChunkEncoder(SIGNED, CHUNK_BYTES, (bytes) => void out.push(bytes));
      const data = Buffer.alloc(length, 'outrider');
      for (let at = 0; at < length; at += 70_001) encoder.push(data.subarray(at, at + 70_001));
      encoder.end(trailer);
      const text = Buffer.concat(out).toString('latin1');
      const behind = trailer && { name: trailer.name, valueBytes: trailer.value.length };
      assert.equal(text.length, encodedLength(length, behind));
      const name = trailer ? { trailer: trailer.name } : {};
      const read = decode(text, { chain: SIGNED, length, ...name });
      assert.equal(read.data, data.toString('latin1'));
      assert.equal(read.trailer, trailer?.value);
    });
