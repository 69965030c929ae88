import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { test } from 'node:test';
import { createRedactor } from './redaction.ts';

const SECRET = 's3cr3t /+&"key~with%odd=chars';
const base64 = (text: string) => Buffer.from(text).toString('base64');

/** All pieces of a body through one stream, as the client gets them. */
function redacted(secrets: readonly string[], pieces: readonly Buffer[]): string {
  const stream = createRedactor(secrets).stream();
  return Buffer.concat([...pieces.map((piece) => stream.push(piece)), stream.end()]).toString();
}

const spellings: readonly (readonly [string, string, string])[] = [
  ['raw', SECRET, SECRET],
  ['hex', Buffer.from(SECRET).toString('hex'), Buffer.from(SECRET).toString('hex')],
  [
    'upper-case hex',
    Buffer.from(SECRET).toString('hex').toUpperCase(),
    Buffer.from(SECRET).toString('hex').toUpperCase(),
  ],
  ['URL-encoded', encodeURIComponent(SECRET), encodeURIComponent(SECRET)],
  ['a form field', new URLSearchParams({ k: SECRET }).toString().slice(2), '%26%22key'],
  ['a JSON string', JSON.stringify(SECRET), JSON.stringify(SECRET).slice(1, -1)],
  ['base64 at offset 0', base64(SECRET), base64(SECRET).slice(0, 30)],
  ['base64 at offset 1', base64(`u${SECRET}`), base64(`u${SECRET}`).slice(3, 30)],
  ['base64 at offset 2', base64(`u:${SECRET}`), base64(`u:${SECRET}`).slice(3, 30)],
  [
    'base64url',
    Buffer.from(`user:${SECRET}`).toString('base64url'),
    Buffer.from(`user:${SECRET}`).toString('base64url').slice(8, 36),
  ],
];

for (const [how, written, forbidden] of spellings)
  test(`a secret written as ${how} is covered at every split of the body`, () => {
    const body = Buffer.from(`{"before":1,"echo":${written},"after":2}`);
    assert.ok(body.includes(forbidden), 'the body really holds it');
    for (let at = 0; at <= body.length; at++) {
      const out = redacted([SECRET], [body.subarray(0, at), body.subarray(at)]);
      assert.ok(!out.includes(forbidden), `split at ${at}`);
      assert.equal(out.length, body.length);
      assert.ok(out.startsWith('{"before":1') && out.endsWith('"after":2}'));
    }
    const single = [...body].map((byte) => Buffer.from([byte]));
    assert.ok(!redacted([SECRET], single).includes(forbidden), 'byte by byte');
  });

test('two secrets that overlap are both covered, however the body is split', () => {
  const body = Buffer.from('xx abcdefgh yy');
  for (let at = 0; at <= body.length; at++)
    for (let next = at; next <= body.length; next++)
      assert.equal(
        redacted(
          ['abcdef', 'defgh'],
          [body.subarray(0, at), body.subarray(at, next), body.subarray(next)],
        ),
        'xx ******** yy',
      );
});

test('text without the secret passes unchanged, and is not held back', () => {
  const stream = createRedactor([SECRET]).stream();
  const noise = randomBytes(100_000);
  const out = Buffer.concat([stream.push(noise), stream.end()]);
  assert.ok(out.equals(noise));
  assert.equal(stream.found, 0);
  assert.equal(
    createRedactor([SECRET]).stream().push(Buffer.from('event: x\n\n')).toString(),
    'event: x\n\n',
  );
});

test('no more is held back than could begin a secret', () => {
  const stream = createRedactor(['abcdefgh']).stream();
  assert.equal(stream.push(Buffer.from('...abc')).toString(), '...');
  assert.equal(stream.push(Buffer.from('x')).toString(), 'abcx');
});

test('a header value is covered', () => {
  assert.equal(createRedactor(['hunter22']).text('k=hunter22; b'), 'k=********; b');
});

test('random bodies: the stream covers what covering the whole body at once covers', () => {
  const secrets = ['aab', 'abba', 'bb'];
  const redactor = createRedactor(secrets);
  for (let round = 0; round < 300; round++) {
    const body = Buffer.from([...randomBytes(40)].map((byte) => 97 + (byte % 3)));
    const pieces: Buffer[] = [];
    for (let at = 0; at < body.length; ) {
      const size = 1 + ((randomBytes(1)[0] ?? 0) % 5);
      pieces.push(body.subarray(at, at + size));
      at += size;
    }
    assert.equal(redacted(secrets, pieces), redactor.text(body.toString('latin1')));
  }
});
