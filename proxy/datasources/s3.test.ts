import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { request } from 'node:http';
import { type TestContext, test } from 'node:test';
import { ChunkDecoder, chunkSignature } from '../s3/chunk-decoder.ts';
import { CHUNK_BYTES, ChunkEncoder, encodedLength } from '../s3/chunk-encoder.ts';
import { awsTime, EMPTY_SHA256, sha256, signature, signingKey } from '../s3/sigv4.ts';
import {
  type AskOptions,
  BOUNDARY,
  datasource,
  egressPolicy,
  type Mesh,
  ROLE,
  type Seen,
  startMesh,
  startOrigin,
} from '../testing.ts';

// What is sent is verified with the same code that signs; that the code is right, AWS's examples and vectors say
// (sigv4.test.ts, test/parts/), and a Ceph RGW (test/parts/).

const REAL = { accessKeyId: 'AKIAREALREALREAL', secretAccessKey: 'real/secret+key' };
const SECRETS = { s3: `${REAL.accessKeyId}:${REAL.secretAccessKey}\n` };
const AUTH = { auth: { type: 'sigv4', region: 'eu-central-1' }, secretRef: 'file:s3' };
const RULE = {
  id: 's3',
  datasource: 's3/data',
  prefixes: ['tenantA/'],
  operations: ['get', 'list', 'put'],
};

const DENIED = [{ id: 'private', datasource: 's3/data', paths: ['/tenantA/private/**'] }];

async function s3Mesh(
  t: TestContext,
  spec: Readonly<Record<string, unknown>> = {},
  answer?: Parameters<typeof startOrigin>[1],
  at = '/bucket',
  operations: readonly string[] = RULE.operations,
) {
  const origin = await startOrigin(t, answer);
  const endpoint = `http://127.0.0.1:${origin.port}${at}`;
  const policy = egressPolicy([{ ...RULE, operations }]);
  const mesh = await startMesh(t, {
    documents: [
      ROLE,
      BOUNDARY,
      { ...policy, spec: { ...Object(policy.spec), deny: DENIED } },
      datasource('s3', 'data', endpoint, { ...AUTH, ...spec }),
    ],
    secrets: SECRETS,
    env: { S3: `${REAL.accessKeyId}:${REAL.secretAccessKey}:session`, NO_PAIR: 'alone' },
  });
  return { origin, ...mesh };
}

/** Whether `Authorization` is right for what an origin got. */
function isSigned(seen: Seen, credentials = REAL): boolean {
  const value = seen.headers.authorization ?? '';
  const [, names = '', claimed] = /SignedHeaders=([^,]+), Signature=(\w{64})$/.exec(value) ?? [];
  const url = new URL(seen.url, 'http://host');
  const parts = {
    method: seen.method,
    path: decodeURIComponent(url.pathname),
    normalize: false,
    query: [...url.searchParams],
    headers: names.split(';').map((name) => [name, String(seen.headers[name])] as const),
    payload: String(seen.headers['x-amz-content-sha256']),
  };
  const scope = {
    time: String(seen.headers['x-amz-date']),
    region: 'eu-central-1',
    service: 's3',
  };
  return claimed === signature(parts, scope, credentials);
}

/** The headers of a program's own signature, made with the placeholder. */
function placeholderSigned(payload: string, more: readonly (readonly [string, string])[] = []) {
  const scope = { time: awsTime(Date.now()), region: 'us-east-1', service: 's3' };
  const headers = [
    ['host', 's3-data.outrider.internal'],
    ['x-amz-content-sha256', payload],
    ['x-amz-date', scope.time],
    ...more,
  ] as const;
  const parts = { method: 'PUT', path: '/k', normalize: false, query: [], headers, payload };
  const seed = signature(parts, scope, { secretAccessKey: 'OUTRIDER' });
  const names = headers.map(([name]) => name).toSorted();
  return {
    seed,
    chain: { key: signingKey('OUTRIDER', scope), scope, seed },
    headers: {
      ...Object.fromEntries(headers.slice(1)),
      authorization: `AWS4-HMAC-SHA256 Credential=OUTRIDER/${scope.time.slice(0, 8)}/us-east-1/s3/aws4_request, SignedHeaders=${names.join(';')}, Signature=${seed}`,
    },
  };
}

test('F3: a request is signed anew for the bucket of the endpoint, and nothing of the program is left', async (t) => {
  const { ask, origin } = await s3Mesh(t);
  const { headers } = placeholderSigned(EMPTY_SHA256, [['x-amz-security-token', 'theirs']]);
  const got = await ask('/s3/data/tenantA/a%20b%3D/%C3%BC+x.txt?x-id=GetObject', {
    headers: { ...headers, range: 'bytes=0-3' },
  });
  assert.equal(got.status, 200, got.body);
  const [seen] = origin.seen;
  assert.ok(seen && isSigned(seen), JSON.stringify(seen));
  assert.equal(seen.url, '/bucket/tenantA/a%20b%3D/%C3%BC%2Bx.txt?x-id=GetObject');
  assert.equal(seen.headers.range, 'bytes=0-3');
  assert.match(seen.headers.authorization ?? '', /Credential=AKIAREALREALREAL\//);
  assert.ok(!JSON.stringify(seen.rawHeaders).includes('OUTRIDER'));
  assert.equal(seen.headers['x-amz-security-token'], undefined);
  assert.ok(!isSigned(seen, { ...REAL, secretAccessKey: 'another' }), 'the check can fail');
});

test('F3: without any signature of the program it is signed all the same; a list has its prefix', async (t) => {
  const { ask, origin } = await s3Mesh(t);
  const got = await ask('/s3/data/?prefix=tenantA/&list-type=2&delimiter=/');
  assert.equal(got.status, 200, got.body);
  assert.equal(origin.seen[0]?.url, '/bucket/?delimiter=%2F&list-type=2&prefix=tenantA%2F');
  assert.ok(origin.seen[0] && isSigned(origin.seen[0]));
});

test('a session token goes along and is signed; a secret that is no pair is not used', async (t) => {
  const { ask, origin } = await s3Mesh(t, { secretRef: 'env:S3' });
  assert.equal((await ask('/s3/data/tenantA/k')).status, 200);
  assert.equal(origin.seen[0]?.headers['x-amz-security-token'], 'session');
  assert.ok(origin.seen[0] && isSigned(origin.seen[0]));
  const other = await s3Mesh(t, { secretRef: 'env:NO_PAIR' });
  const got = await other.ask('/s3/data/tenantA/k');
  assert.equal(got.status, 503);
  assert.equal(got.error.reason, 'credential_unavailable');
  assert.equal(other.origin.seen.length, 0);
});

test('a public bucket is read without a signature, and not written', async (t) => {
  const { ask, origin } = await s3Mesh(t, { auth: { type: 'none' }, secretRef: undefined });
  const { headers } = placeholderSigned(EMPTY_SHA256);
  assert.equal((await ask('/s3/data/tenantA/k', { headers })).status, 200);
  assert.equal(origin.seen[0]?.headers.authorization, undefined);
  const refused = await ask('/s3/data/tenantA/k', put({}));
  assert.equal(refused.error.reason, 'method_not_allowed');
  assert.equal(origin.seen.length, 1);
});

/** What an origin got as an upload, its chunks verified with the real key. */
function stored(seen: Seen | undefined): { data: string; trailer: string | undefined } {
  assert.ok(seen && isSigned(seen), JSON.stringify(seen?.rawHeaders));
  const time = String(seen.headers['x-amz-date']);
  const scope = { time, region: 'eu-central-1', service: 's3' };
  const trailer = seen.headers['x-amz-trailer'];
  const out: Buffer[] = [];
  const decoder = new ChunkDecoder({
    chain: {
      key: signingKey(REAL.secretAccessKey, scope),
      scope,
      seed: String(seen.headers.authorization).slice(-64),
    },
    length: Number(seen.headers['x-amz-decoded-content-length']),
    trailer: trailer === undefined ? undefined : String(trailer),
    onData: (data) => void out.push(Buffer.from(data)),
  });
  decoder.push(Buffer.from(seen.body, 'latin1'));
  decoder.end();
  assert.equal(seen.headers['content-length'], String(seen.body.length));
  return { data: Buffer.concat(out).toString('latin1'), trailer: decoder.trailer };
}

/** An upload in the program's own signed chunks. */
function chunked(
  object: Buffer,
  trailer?: { name: string; value: string },
  chunkBytes = CHUNK_BYTES,
) {
  const payload = `STREAMING-AWS4-HMAC-SHA256-PAYLOAD${trailer ? '-TRAILER' : ''}`;
  const { headers, chain } = placeholderSigned(payload, [
    ['x-amz-decoded-content-length', String(object.length)],
    ...(trailer ? [['x-amz-trailer', trailer.name] as const] : []),
  ]);
  const out: Buffer[] = [];
  const encoder = new ChunkEncoder(chain, chunkBytes, (bytes) => void out.push(bytes));
  encoder.push(object);
  encoder.end(trailer);
  return {
    method: 'PUT',
    headers: { ...headers, 'content-encoding': 'aws-chunked,gzip' },
    body: Buffer.concat(out),
  };
}

const OBJECT = Buffer.alloc(300_000, 'outrider ');
const CRC = { name: 'x-amz-checksum-crc32', value: 'AAAAAA==' };

for (const trailer of [undefined, CRC])
  test(`F3: an upload in signed chunks${trailer ? ' with a checksum behind them' : ''} is signed anew chunk by chunk`, async (t) => {
    const { ask, origin } = await s3Mesh(t, { publicUrlPrefix: 'https://cdn.example.com/d/' });
    const got = await ask('/s3/data/tenantA/a%20b', chunked(OBJECT, trailer));
    assert.equal(got.status, 200, got.body);
    assert.deepEqual(stored(origin.seen[0]), {
      data: OBJECT.toString('latin1'),
      trailer: trailer?.value,
    });
    assert.equal(origin.seen[0]?.headers['content-encoding'], 'aws-chunked,gzip');
    assert.equal(got.headers['x-outrider-public-url'], 'https://cdn.example.com/d/tenantA/a%20b');
  });

for (const chunkBytes of [8_192, 65_536, 1_048_576, 100_000])
  test(`an upload in signed chunks of ${chunkBytes} bytes leaves whole, in chunks as large where that is usual`, async (t) => {
    const { ask, origin } = await s3Mesh(t);
    const object = Buffer.alloc(2_500_001, 'outrider ');
    const got = await ask('/s3/data/tenantA/k', chunked(object, undefined, chunkBytes));
    assert.equal(got.status, 200, got.body);
    assert.equal(stored(origin.seen[0]).data, object.toString('latin1'));
    const ours = chunkBytes === 100_000 ? CHUNK_BYTES : chunkBytes;
    assert.ok(origin.seen[0]?.body.startsWith(`${ours.toString(16)};chunk-signature=`));
  });

/** An upload of `outrider` in unsigned chunks. */
function unsignedChunks(checksum: string, headers: Readonly<Record<string, string>> = {}) {
  return {
    method: 'PUT',
    headers: {
      'x-amz-content-sha256': 'STREAMING-UNSIGNED-PAYLOAD-TRAILER',
      'x-amz-trailer': CRC.name,
      'x-amz-decoded-content-length': '8',
      'content-encoding': 'aws-chunked',
      ...headers,
    },
    body: `7\r\noutride\r\n1\r\nr\r\n0\r\n${CRC.name}:${checksum}\r\n\r\n`,
  };
}

test('an upload in unsigned chunks with a checksum behind them leaves in signed ones', async (t) => {
  const { ask, origin } = await s3Mesh(t);
  const got = await ask('/s3/data/tenantA/k', unsignedChunks(CRC.value));
  assert.equal(got.status, 200, got.body);
  assert.deepEqual(stored(origin.seen[0]), { data: 'outrider', trailer: CRC.value });
});

test('aws-chunked is taken off in whatever case it is written, and is not stored with an object', async (t) => {
  const { ask, origin } = await s3Mesh(t);
  const written = { 'content-encoding': 'AWS-Chunked,gzip' };
  const got = await ask('/s3/data/tenantA/k', unsignedChunks(CRC.value, written));
  assert.equal(got.status, 200, got.body);
  assert.equal(origin.seen[0]?.headers['content-encoding'], 'aws-chunked,gzip');
  const unsaid = { ...written, 'x-amz-content-sha256': 'UNSIGNED-PAYLOAD' };
  const refused = await ask('/s3/data/tenantA/k', unsignedChunks(CRC.value, unsaid));
  assert.equal(refused.error.reason, 'header_value');
  assert.equal(origin.seen.length, 1, 'its chunks would be stored as data');
});

for (const checksum of ['AAAA', 'AAAAAAAAAAAAAAAA', 'AAAAAAAA\r\nx-amz-meta-a:1'])
  test(`a checksum behind the chunks that is none is told as that: ${JSON.stringify(checksum)}`, async (t) => {
    const { ask, origin } = await s3Mesh(t);
    const got = await ask('/s3/data/tenantA/k', unsignedChunks(checksum));
    assert.deepEqual([got.status, got.error.reason], [400, 'trailer_forbidden'], got.body);
    assert.equal(origin.seen.filter(({ body }) => body.includes(CRC.name)).length, 0);
  });

test('a body without a hash leaves in signed chunks, one with a hash as it is', async (t) => {
  const { ask, origin } = await s3Mesh(t);
  const store = (headers: Record<string, string>) =>
    ask('/s3/data/tenantA/k', { method: 'PUT', headers, body: 'outrider' });
  assert.equal((await store({ 'x-amz-content-sha256': 'UNSIGNED-PAYLOAD' })).status, 200);
  assert.equal((await store({})).status, 200);
  assert.equal((await store({ 'x-amz-content-sha256': sha256('outrider') })).status, 200);
  assert.equal(stored(origin.seen[0]).data, 'outrider');
  assert.equal(stored(origin.seen[1]).data, 'outrider');
  assert.equal(origin.seen[2]?.body, 'outrider');
  assert.ok(origin.seen[2] && isSigned(origin.seen[2]));
});

test('an upload in parts: its beginning and its end are signed with what they hold', async (t) => {
  const { ask, origin } = await s3Mesh(t, { publicUrlPrefix: 'https://cdn.example.com/' });
  const target = '/s3/data/tenantA/big';
  await ask(`${target}?uploads`, { method: 'POST' });
  const part = await ask(`${target}?partNumber=1&uploadId=u%2B1`, { method: 'PUT', body: 'part' });
  assert.equal(part.headers['x-outrider-public-url'], undefined, 'nobody can read it yet');
  const done = await ask(`${target}?uploadId=u%2B1`, { method: 'POST', body: '<Complete/>' });
  assert.equal(done.headers['x-outrider-public-url'], 'https://cdn.example.com/tenantA/big');
  assert.deepEqual(
    origin.seen.map((seen) => [seen.method, seen.url, isSigned(seen)]),
    [
      ['POST', '/bucket/tenantA/big?uploads=', true],
      ['PUT', '/bucket/tenantA/big?partNumber=1&uploadId=u%2B1', true],
      ['POST', '/bucket/tenantA/big?uploadId=u%2B1', true],
    ],
  );
  assert.equal(origin.seen[2]?.headers['x-amz-content-sha256'], sha256('<Complete/>'));
});

test('one wrong chunk signature, and the other side never has a whole upload', async (t) => {
  const { ask, origin } = await s3Mesh(t);
  const upload = chunked(OBJECT);
  upload.body[upload.body.length - 10_000] = 0;
  const got = await ask('/s3/data/tenantA/k', upload);
  assert.equal(got.status, 403, got.body);
  assert.equal(got.error.reason, 'sigv4_chunk_signature');
  const [seen] = origin.seen;
  const length = encodedLength(OBJECT.length);
  assert.ok(seen === undefined || seen.body.length < length, 'cut before its end');
});

test('control: a caller that leaves in the middle of an upload leaves nothing whole behind either', async (t) => {
  const { addresses, token, origin } = await s3Mesh(t);
  const { headers, body } = chunked(OBJECT);
  const socketPath = addresses.listen.kind === 'unix' ? addresses.listen.path : '';
  const sent = request({
    socketPath,
    path: '/s3/data/tenantA/k',
    method: 'PUT',
    headers: {
      host: 'x',
      'proxy-authorization': `Bearer ${await token()}`,
      'content-length': body.length,
      ...headers,
    },
  });
  sent.on('error', () => {});
  sent.write(body.subarray(0, 200_000), () => sent.destroy());
  const [seen] = await eventuallySeen(origin);
  assert.ok(seen.body.length < encodedLength(OBJECT.length));
});

async function eventuallySeen({ seen }: { seen: Seen[] }): Promise<[Seen, ...Seen[]]> {
  for (let tries = 0; tries < 500; tries++) {
    const [first, ...rest] = seen;
    if (first) return [first, ...rest];
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  throw new Error('the origin saw nothing');
}

const NOW = awsTime(Date.now());
const SCOPE = `${NOW.slice(0, 8)}/us-east-1/s3/aws4_request`;
const signed = (names: string, credential = `OUTRIDER/${SCOPE}`) =>
  `AWS4-HMAC-SHA256 Credential=${credential}, SignedHeaders=${names}, Signature=${'0'.repeat(64)}`;
const REFUSED: readonly (readonly [string, string, string, AskOptions])[] = [
  ['the other prefix', 's3_key_not_allowed', '/s3/data/tenantB/k', {}],
  ['another bucket beside this one', 'path_malformed', '/s3/data/../other/k', {}],
  ['encoded dots', 'path_malformed', '/s3/data/tenantA/%2E%2E/k', {}],
  ['encoded slashes', 'path_malformed', '/s3/data/tenantA%2F..%2Fk', {}],
  ['encoded twice', 'path_malformed', '/s3/data/tenantA/%252E%252E/k', {}],
  ['an empty segment', 'path_malformed', '/s3/data/tenantA//k', {}],
  ['a list by dots', 'query_malformed', '/s3/data/?prefix=tenantA/%2E%2E/tenantB/', {}],
  ['a list by dots and backslashes', 'query_malformed', '/s3/data/?prefix=tenantA%5C..%5Cb/', {}],
  ['deleting', 'method_not_allowed', '/s3/data/tenantA/k', { method: 'DELETE' }],
  ...[
    ['of another bucket', '/other/tenantA/k'],
    ["by the bucket's other name", '/bucket/tenantA/k'],
    ['of the other prefix', '/data/tenantB/k'],
    ['of what is denied', '/data/tenantA/private/k'],
    ['of a version', '/data/tenantA/k?versionId=1'],
    ['by dots', '/data/tenantA/../tenantB/k'],
    ['encoded twice', '/data/tenantA/%252E%252E/tenantB/k'],
    ['with a backslash', '/data/tenantA\\..\\k'],
  ].map(
    ([what, source]) =>
      [
        `a copy ${what}`,
        's3_copy_source_forbidden',
        '/s3/data/tenantA/copy',
        copyOf(String(source)),
      ] as const,
  ),
  [
    'two copies in one',
    'header_value',
    '/s3/data/tenantA/copy',
    copyOf(['/data/tenantA/k', '/data/tenantB/k']),
  ],
  [
    'a copy with a body',
    'header_value',
    '/s3/data/tenantA/copy',
    put({ 'x-amz-copy-source': '/data/tenantA/k' }),
  ],
  [
    'a copy with a key of its own',
    's3_copy_source_forbidden',
    '/s3/data/tenantA/copy',
    copyOf('/data/tenantA/k', {
      'x-amz-copy-source-server-side-encryption-customer-algorithm': 'AES256',
    }),
  ],
  [
    'a part of nothing to copy',
    's3_copy_source_forbidden',
    '/s3/data/tenantA/k',
    put({ 'x-amz-copy-source-range': 'bytes=0-1' }),
  ],
  [
    'a copy to the other prefix',
    's3_key_not_allowed',
    '/s3/data/tenantB/k',
    copyOf('/data/tenantA/k'),
  ],
  [
    'deleting many without a grant',
    's3_subresource_forbidden',
    '/s3/data/?delete',
    deleting('tenantA/k'),
  ],
  ['an acl', 's3_subresource_forbidden', '/s3/data/tenantA/k', put({ 'x-amz-acl': 'public-read' })],
  ['tags', 's3_subresource_forbidden', '/s3/data/tenantA/k', put({ 'x-amz-tagging': 'a=b' })],
  [
    'a body where none belongs',
    'query_not_understood',
    '/s3/data/tenantA/k',
    { body: 'abc', headers: { 'content-length': '3' } },
  ],
  ['a header twice', 'header_value', '/s3/data/tenantA/k', put({ 'x-amz-meta-a': ['b', 'c'] })],
  ['presigned', 'sigv4_presigned_forbidden', '/s3/data/tenantA/k?X-Amz-Signature=x', {}],
  ['SigV2', 'sigv4_required', '/s3/data/tenantA/k', get({ authorization: 'AWS P:sig' })],
  [
    'SigV4A',
    'sigv4_required',
    '/s3/data/tenantA/k',
    get({ authorization: 'AWS4-ECDSA-P256-SHA256 Credential=x' }),
  ],
  [
    'a token of another kind',
    'sigv4_required',
    '/s3/data/tenantA/k',
    get({ authorization: 'Bearer x' }),
  ],
  [
    'an old date',
    'sigv4_date_skew',
    '/s3/data/tenantA/k',
    get({ 'x-amz-date': '20200101T000000Z' }),
  ],
  ['no date', 'sigv4_date_skew', '/s3/data/tenantA/k', get({ authorization: signed('host') })],
  [
    'another service',
    'sigv4_scope_forbidden',
    '/s3/data/tenantA/k',
    get({
      'x-amz-date': NOW,
      authorization: signed('host;x-amz-date', `O/${SCOPE.replace('/s3/', '/iam/')}`),
    }),
  ],
  [
    'a header that is not signed',
    'sigv4_unsigned_amz_header',
    '/s3/data/tenantA/k',
    get({ 'x-amz-date': NOW, 'x-amz-meta-a': 'b', authorization: signed('host;x-amz-date') }),
  ],
  [
    'signed chunks without a signature',
    'sigv4_required',
    '/s3/data/tenantA/k',
    put({
      'x-amz-content-sha256': 'STREAMING-AWS4-HMAC-SHA256-PAYLOAD',
      'x-amz-decoded-content-length': '1',
    }),
  ],
  [
    'signed chunks with a key that nobody here knows',
    'sigv4_chunk_signature',
    '/s3/data/tenantA/k',
    put({
      'x-amz-date': NOW,
      'x-amz-content-sha256': 'STREAMING-AWS4-HMAC-SHA256-PAYLOAD',
      authorization: signed('host;x-amz-content-sha256;x-amz-date', `AKIA/${SCOPE}`),
    }),
  ],
  [
    'chunks that nothing says how',
    'header_value',
    '/s3/data/tenantA/k',
    put({ 'content-encoding': 'aws-chunked' }),
  ],
  [
    'a hash of no kind',
    'sigv4_required',
    '/s3/data/tenantA/k',
    put({ 'x-amz-content-sha256': 'x' }),
  ],
  [
    'a trailer that is no checksum',
    'trailer_forbidden',
    '/s3/data/tenantA/k',
    put({
      'x-amz-content-sha256': 'STREAMING-UNSIGNED-PAYLOAD-TRAILER',
      'x-amz-trailer': 'x-amz-meta-a',
    }),
  ],
];

test('F3: a copy of an object, or of a part of one, is sent with its source written anew in the bucket of the endpoint', async (t) => {
  const { ask, origin, records } = await s3Mesh(t);
  const headers = {
    'x-amz-metadata-directive': 'REPLACE',
    'x-amz-meta-a': 'b',
    'x-amz-acl': 'private',
  };
  const got = await ask('/s3/data/tenantA/copy', copyOf('data%2FtenantA%2Fa%20b', headers));
  assert.equal(got.status, 200, got.body);
  const part = { 'x-amz-copy-source-range': 'bytes=0-1' };
  const target = '/s3/data/tenantA/copy?partNumber=1&uploadId=u';
  assert.equal((await ask(target, copyOf('/data/tenantA/k', part))).status, 200);
  const [whole, piece] = origin.seen;
  assert.ok(whole && isSigned(whole) && piece && isSigned(piece));
  assert.equal(whole.headers['x-amz-copy-source'], '/bucket/tenantA/a%20b');
  assert.equal(whole.headers['x-amz-metadata-directive'], 'REPLACE');
  assert.equal(whole.headers['x-amz-acl'], undefined);
  assert.equal(piece.headers['x-amz-copy-source'], '/bucket/tenantA/k');
  assert.equal(piece.headers['x-amz-copy-source-range'], 'bytes=0-1');
  assert.match(String(records().at(-1)?.['query']), /x-amz-copy-source=\/data\/tenantA\/k/);
});

for (const [endpoint, bucket] of [
  ['/a-bucket', 'a-bucket'],
  ['/two/names', undefined],
  ['', undefined],
] as const)
  test(`of an endpoint at ${JSON.stringify(endpoint)} the bucket to copy from is ${bucket ?? 'in doubt: refused'}`, async (t) => {
    const { ask, origin } = await s3Mesh(t, {}, undefined, endpoint);
    const got = await ask('/s3/data/tenantA/copy', copyOf('/data/tenantA/k'));
    assert.equal(got.error?.reason, bucket === undefined ? 's3_copy_source_forbidden' : undefined);
    assert.equal(origin.seen.length, bucket === undefined ? 0 : 1);
  });

test('F3: many keys are deleted at once where each may be, and otherwise none', async (t) => {
  const { ask, origin } = await s3Mesh(t, {}, undefined, '/bucket', [...RULE.operations, 'delete']);
  const target = '/s3/data/?delete';
  for (const key of ['tenantB/k', 'tenantA/private/k']) {
    const refused = await ask(target, deleting('tenantA/k', key));
    assert.deepEqual([refused.status, refused.error.reason], [403, 's3_key_not_allowed']);
  }
  const unread = await ask(target, { method: 'POST', body: '<Delete/>' });
  assert.deepEqual([unread.status, unread.error.reason], [403, 's3_subresource_forbidden']);
  assert.equal(origin.seen.length, 0);
  const many = deleting('tenantA/k', 'tenantA/l');
  assert.equal((await ask(target, many)).status, 200);
  const [seen] = origin.seen;
  assert.ok(seen && isSigned(seen));
  assert.deepEqual([seen.url, seen.body], ['/bucket/?delete=', many.body]);
});

test('F3: what is refused is refused before anything is dialled, and what is next to it works', async (t) => {
  const { ask, origin } = await s3Mesh(t);
  for (const [what, reason, target, options] of REFUSED)
    await t.test(`${reason}: ${what}`, async () => {
      const got = await ask(target, options);
      assert.equal(got.error.reason, reason, got.body);
      assert.ok([400, 403, 405].includes(got.status));
      assert.equal(origin.seen.length, 0);
    });
  const control = await ask('/s3/data/tenantA/k', put({ 'x-amz-meta-a': 'b', 'x-amz-date': NOW }));
  assert.equal(control.status, 200);
  assert.equal(origin.seen[0]?.headers['x-amz-meta-a'], 'b');
});

test('a client of S3 is refused in the form of S3, with the reason; whoever speaks otherwise, in JSON', async (t) => {
  const { ask, origin } = await s3Mesh(t);
  const target = '/s3/data/tenantB/k';
  const told = await ask(target, { headers: { 'X-Amz-Content-Sha256': EMPTY_SHA256 } });
  assert.equal(told.status, 403);
  assert.equal(told.headers['content-type'], 'application/xml');
  assert.equal(Number(told.headers['content-length']), told.body.length);
  assert.match(told.body, /^<\?xml [^]*<Error><Code>AccessDenied<\/Code><Message>[^<]+</);
  const reason = String(told.headers['x-outrider-reason']);
  assert.ok(told.body.includes(`<Reason>${reason}</Reason>`), told.body);
  assert.match(told.body, /<RequestId>[^<]+<\/RequestId><\/Error>\n$/);
  const other = await ask(target);
  assert.equal(other.headers['content-type'], 'application/json');
  assert.equal(other.error.reason, reason);
  assert.equal(origin.seen.length, 0);
});

test('what S3 says of a failure is searched for the credential; an object is not, and may be encoded', async (t) => {
  const { ask } = await s3Mesh(t, {}, (seen, response) => {
    const failed = seen.url.includes('fails');
    response.writeHead(failed ? 403 : 200, failed ? {} : { 'content-encoding': 'gzip' });
    response.end(`key ${REAL.accessKeyId}, secret ${REAL.secretAccessKey}`);
  });
  const failed = await ask('/s3/data/tenantA/fails');
  assert.equal(failed.status, 403);
  assert.ok(!failed.body.includes(REAL.accessKeyId) && !failed.body.includes(REAL.secretAccessKey));
  assert.match((await ask('/s3/data/tenantA/k')).body, /AKIAREALREALREAL/);
});

function copyOf(source: string | string[], headers: Record<string, string> = {}): AskOptions {
  const length = { 'content-length': '0' };
  return { method: 'PUT', headers: { 'x-amz-copy-source': source, ...length, ...headers } };
}
function deleting(...keys: readonly string[]): AskOptions & { body: string } {
  const objects = keys.map((key) => `<Object><Key>${key}</Key></Object>`);
  return { method: 'POST', body: `<Delete>${objects.join('')}</Delete>` };
}
function put(headers: Record<string, string | string[]>): AskOptions {
  return { method: 'PUT', headers, body: 'x' };
}
function get(headers: Record<string, string>): AskOptions {
  return { headers };
}

// The chain of a hostile caller that knows the placeholder is its own business; it is here to show that the check is not of hashes alone.
test('control: a chunk whose hash is right and whose chain is another is refused', async (t) => {
  const { ask }: Pick<Mesh, 'ask'> = await s3Mesh(t);
  const { headers, chain } = chunkedHead(4);
  const other = { ...chain, seed: '1'.repeat(64) };
  const hash = createHash('sha256').update('data').digest('hex');
  const body = `4;chunk-signature=${chunkSignature(other, other.seed, hash)}\r\ndata\r\n`;
  const got = await ask('/s3/data/tenantA/k', { method: 'PUT', headers, body });
  assert.equal(got.error.reason, 'sigv4_chunk_signature');
});

function chunkedHead(length: number) {
  return placeholderSigned('STREAMING-AWS4-HMAC-SHA256-PAYLOAD', [
    ['x-amz-decoded-content-length', String(length)],
  ]);
}
