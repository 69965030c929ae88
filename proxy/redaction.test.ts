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

/** A secret with a `%`, which may begin an escape and be one. */
const MIXED = 'canary-A_25%25.k/&<"\'9';
const code = (char: string, base: number): string => char.charCodeAt(0).toString(base);
const hex = (char: string): string => code(char, 16).toUpperCase();
const anyCase = (text: string): string =>
  text.replace(/[A-F]/g, (digit, at) => (at % 2 ? digit : digit.toLowerCase()));
const ESCAPES: readonly (readonly [string, (char: string) => string])[] = [
  ['for a URL', (char) => `%${hex(char)}`],
  ['for a URL in lower case', (char) => `%${hex(char).toLowerCase()}`],
  ['in JSON', (char) => `\\u00${hex(char)}`],
  ['in JSON in lower case', (char) => `\\u00${hex(char).toLowerCase()}`],
  ['in decimal for HTML', (char) => `&#${code(char, 10)};`],
  ['in hex for HTML', (char) => `&#x${hex(char)};`],
  ['in lower-case hex for HTML', (char) => `&#x${hex(char).toLowerCase()};`],
];
const WHICH: readonly (readonly [string, RegExp])[] = [
  ['all characters', /[^]/g],
  ['all but letters and digits', /[^A-Za-z0-9]/g],
  ['some of them', /[-%/<]/g],
];
const escapes = ESCAPES.flatMap(([how, escape]) =>
  WHICH.map(([which, chars]) => [`${which} ${how}`, MIXED.replace(chars, escape)] as const),
);
for (const [how, written] of [
  ...escapes,
  ['hex of mixed case', anyCase(Buffer.from(MIXED).toString('hex').toUpperCase())],
  ['escapes of mixed case', anyCase(MIXED.replace(/[^]/g, (char) => `%${hex(char)}`))],
  ['a quote as PHP escapes it', MIXED.replace("'", '&#039;')],
] as const)
  test(`more than needed is escaped, ${how}: covered at every split`, () => {
    const body = Buffer.from(`{"a":"100%25","echo":${written},"c":"&#45;\\u002d"}`);
    const covered = `{"a":"100%25","echo":${'*'.repeat(written.length)},"c":"&#45;\\u002d"}`;
    for (let at = 0; at <= body.length; at++)
      assert.equal(redacted([MIXED], [body.subarray(0, at), body.subarray(at)]), covered);
    assert.equal(createRedactor([MIXED]).text(body.toString()), covered);
    const other = written.replace(/.(?=[^]{3}$)/, 'z');
    assert.equal(redacted([MIXED], [Buffer.from(other)]), other, 'control: another text passes');
  });

test('what is escaped is found among text like it, wherever it stands', () => {
  const secrets = ['k-9.3/71', 'a+b=c-d_e'];
  const pieces = [
    'k',
    '%2D',
    '9',
    '-',
    '&#46;',
    '3',
    '\\u002F',
    '/',
    '71',
    '%',
    '2',
    'a',
    '+',
    '%3D',
  ];
  const written = 'k%2D9&#46;3\\u002f71';
  for (let round = 0; round < 300; round++) {
    const some = (): string =>
      [...randomBytes(20)].map((byte) => pieces[byte % pieces.length]).join('');
    const body = `${some()}|${written}|${some()}`;
    assert.ok(!redacted(secrets, [Buffer.from(body)]).includes(written), body);
  }
});

test('many ways to read a text cost no more time than bytes times characters', () => {
  const secret = '%25'.repeat(300);
  const begun = performance.now();
  redacted([secret], [Buffer.from('%25'.repeat(2_000))]);
  assert.ok(performance.now() - begun < 5_000);
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
