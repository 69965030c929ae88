import assert from 'node:assert/strict';
import { test } from 'node:test';
import { s3Error, speaksS3 } from './s3-error.ts';

const REFUSAL = {
  status: 403,
  message: 'no rule allows it',
  reason: 'path_not_allowed',
  rule: null,
  requestId: 'eg-1',
};

test('a client of S3 is known by the digest that it says, whatever the case, and by no value', () => {
  assert.ok(speaksS3(['Host', 'h', 'X-Amz-Content-SHA256', 'UNSIGNED-PAYLOAD']));
  assert.ok(!speaksS3(['Host', 'x-amz-content-sha256', 'x-amz-date', '20260101T000000Z']));
  assert.ok(!speaksS3([]));
});

test('a refusal has a code of S3, its reason and its request', () => {
  assert.equal(
    s3Error(REFUSAL),
    '<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>AccessDenied</Code><Message>no rule allows it (Outrider: path_not_allowed)</Message><Reason>path_not_allowed</Reason><RequestId>eg-1</RequestId></Error>\n',
  );
});

test('a rule is named, and nothing is named that there is not', () => {
  const named = s3Error({ ...REFUSAL, rule: 'reports' });
  assert.match(named, /\(Outrider: path_not_allowed, rule reports\)<\/Message>/);
  assert.match(named, /<Rule>reports<\/Rule>/);
  const bare = s3Error({ ...REFUSAL, reason: undefined, rule: undefined });
  assert.match(bare, /<Message>no rule allows it<\/Message><RequestId>/);
});

for (const [status, code] of [
  [400, 'InvalidRequest'],
  [403, 'AccessDenied'],
  [404, 'NoSuchBucket'],
  [405, 'MethodNotAllowed'],
  [413, 'EntityTooLarge'],
  [415, 'InvalidRequest'],
  [429, 'SlowDown'],
  [500, 'InternalError'],
  [502, 'ServiceUnavailable'],
  [503, 'ServiceUnavailable'],
  [504, 'ServiceUnavailable'],
] as const)
  test(`${status} is ${code}`, () => {
    assert.match(s3Error({ ...REFUSAL, status }), new RegExp(`<Code>${code}</Code>`));
  });

test('no text of a program becomes markup, or what XML cannot say', () => {
  const text = s3Error({
    ...REFUSAL,
    message: '</Message><Code>"&\u0000\ud800\uffff\tü😀',
    reason: undefined,
  });
  assert.match(
    text,
    /<Message>&#60;\/Message&#62;&#60;Code&#62;&#34;&#38;\?\?\?&#9;&#252;&#128512;<\/Message>/,
  );
  assert.match(text, /^[\x20-\x7e\n]*$/);
});
