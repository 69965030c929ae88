import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  authorization,
  awsTime,
  canonicalQuery,
  EMPTY_SHA256,
  parseAwsTime,
  type SignedParts,
  sha256,
  signature,
} from './sigv4.ts';

// The examples of https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html, as published.
const CREDENTIALS = {
  accessKeyId: 'AKIAIOSFODNN7EXAMPLE',
  secretAccessKey: 'wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY',
};
const SCOPE = { time: '20130524T000000Z', region: 'us-east-1', service: 's3' };
const HOST = ['host', 'examplebucket.s3.amazonaws.com'] as const;
const DATE = ['x-amz-date', SCOPE.time] as const;

const EXAMPLES: readonly (readonly [string, string, Partial<SignedParts>])[] = [
  [
    'GET Object',
    'f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41',
    {
      path: '/test.txt',
      headers: [HOST, DATE, ['Range', 'bytes=0-9'], ['x-amz-content-sha256', EMPTY_SHA256]],
    },
  ],
  [
    'PUT Object',
    '98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd',
    {
      method: 'PUT',
      path: '/test$file.text',
      payload: sha256('Welcome to Amazon S3.'),
      headers: [
        HOST,
        DATE,
        ['date', 'Fri, 24 May 2013 00:00:00 GMT'],
        ['x-amz-content-sha256', sha256('Welcome to Amazon S3.')],
        ['x-amz-storage-class', 'REDUCED_REDUNDANCY'],
      ],
    },
  ],
  [
    'GET Bucket Lifecycle',
    'fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543',
    { query: [['lifecycle', '']] },
  ],
  [
    'Get Bucket (List Objects)',
    '34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7',
    {
      query: [
        ['prefix', 'J'],
        ['max-keys', '2'],
      ],
    },
  ],
];

for (const [name, expected, parts] of EXAMPLES)
  test(`the example of AWS: ${name}`, () => {
    const request: SignedParts = {
      method: 'GET',
      path: '/',
      normalize: false,
      query: [],
      headers: [HOST, DATE, ['x-amz-content-sha256', EMPTY_SHA256]],
      payload: EMPTY_SHA256,
      ...parts,
    };
    assert.equal(signature(request, SCOPE, CREDENTIALS), expected);
    assert.match(
      authorization(request, SCOPE, CREDENTIALS),
      new RegExp(
        `^AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request, SignedHeaders=[a-z0-9;-]*host[a-z0-9;-]*, Signature=${expected}$`,
      ),
    );
  });

test('a header of UTF-8 is signed as its bytes are sent, as botocore signs it', () => {
  const name = Buffer.from('à la  carte, Zoë').toString('latin1');
  const request: SignedParts = {
    method: 'PUT',
    path: '/k',
    normalize: false,
    query: [],
    headers: [
      HOST,
      ['x-amz-date', '20261123T120000Z'],
      ['x-amz-content-sha256', EMPTY_SHA256],
      ['x-amz-meta-name', name],
    ],
    payload: EMPTY_SHA256,
  };
  assert.equal(
    signature(request, { ...SCOPE, time: '20261123T120000Z' }, CREDENTIALS),
    '891bf34a9ec589eaa9c7a3d41fb5ca874fcb6188497922a5823f67610c80bd36',
  );
});

test('a query is sorted by what is sent, not by what it means', () => {
  const query = canonicalQuery([
    ['prefix', 'a b/ü'],
    ['delimiter', '/'],
    ['a-b', "!'()*~"],
    ['a', ''],
  ]);
  assert.equal(query, 'a=&a-b=%21%27%28%29%2A~&delimiter=%2F&prefix=a%20b%2F%C3%BC');
});

test('a time of AWS is read as it is written, and nothing else is', () => {
  const now = Date.UTC(2026, 10, 21, 9, 30, 1);
  assert.equal(awsTime(now), '20261121T093001Z');
  assert.equal(parseAwsTime(awsTime(now)), now);
  for (const bad of ['', '2026-11-21T09:30:01Z', '20261121T093001', '20261399T093001Z'])
    assert.equal(parseAwsTime(bad), undefined, bad);
});
