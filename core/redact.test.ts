import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { describe, test } from 'node:test';
import { redact, redactForm, redactText } from './redact.ts';
import { cpuMsOf } from './testing/cpu.ts';

const vectors: { redact: string[]; keep: string[]; values_must_not_leak: string[] } = JSON.parse(
  readFileSync(new URL('vectors/redaction_cases.json', import.meta.url), 'utf8'),
);
const A_TOKEN = 'eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJ1In0.c2ln';

describe('values of keys', () => {
  for (const key of vectors.redact)
    test(`${key} is hidden, whatever its value is`, () => {
      for (const value of ['v', 5, true, { a: 'v' }, ['v']])
        assert.deepEqual(redact({ [key]: value }), { [key]: '[REDACTED]' });
    });
  for (const key of vectors.keep)
    test(`${key} is kept`, () => {
      assert.deepEqual(redact({ [key]: 'v', n: [{ [key]: 1 }] }), {
        [key]: 'v',
        n: [{ [key]: 1 }],
      });
    });
});

describe('values that look like a secret', () => {
  const secret = /eyJzdWIi|abc\.def|p4ss|hunter2/;
  const places: readonly (readonly [string, (value: string) => string])[] = [
    ['alone', (value) => value],
    ['inside a sentence', (value) => `it said "${value}", twice ${value}.`],
    ['after a line feed, in JSON', (value) => JSON.stringify({ m: `x\n${value}\t${value}` })],
    ['as JSON inside JSON', (value) => JSON.stringify(JSON.stringify({ m: `x ${value}` }))],
  ];
  for (const value of vectors.values_must_not_leak)
    for (const [where, place] of places)
      test(`${value.slice(0, 20)} ${where}`, () => {
        assert.match(place(value), secret);
        assert.doesNotMatch(redactText(place(value)), secret);
        assert.doesNotMatch(JSON.stringify(redact({ a: [place(value)] })), secret);
      });

  test('what is left of JSON is still JSON', () => {
    for (const value of vectors.values_must_not_leak)
      for (const text of [value, `x\n${value}`, `"${value}"`, `${value}\\`])
        assert.doesNotThrow(() => JSON.parse(redactText(JSON.stringify({ a: text, b: [text] }))));
  });
});

describe('pairs of a query or form', () => {
  for (const key of vectors.redact)
    test(`${key} is hidden, also where it is encoded`, () => {
      const encoded = Array.from(key, (c) => `%${c.charCodeAt(0).toString(16)}`).join('');
      for (const name of [key, encoded])
        assert.equal(redactForm(`a=1&${name}=v%20w&b=2`), `a=1&${name}=[REDACTED]&b=2`);
    });
  const cases = [
    ['password=hunter2', 'password=[REDACTED]'],
    ['q=Bearer%20abcdefgh12345678', 'q=[REDACTED]'],
    ['q=Bearer+abcdefgh12345678&x=1', 'q=[REDACTED]&x=1'],
    ['db=postgres%3A%2F%2Fu%3Ap4ss%40h%2Fdb', 'db=[REDACTED]'],
    ['X-Amz-Signature=0a1b&X-Amz-Date=2026', 'X-Amz-Signature=[REDACTED]&X-Amz-Date=2026'],
    ['sv=1&sig=a%2Bb', 'sv=1&sig=[REDACTED]'],
    ['design=1&signal=2', 'design=1&signal=2'],
    ['p%61ssword=hunter2&broken=%zz%', 'p%61ssword=[REDACTED]&broken=%zz%'],
    ['query=sum(rate(x%5B5m%5D))&start=1+2', 'query=sum(rate(x%5B5m%5D))&start=1+2'],
    ["SELECT password FROM t WHERE a = 'b'", "SELECT password FROM t WHERE a = 'b'"],
  ] as const;
  for (const [form, kept] of cases) test(form, () => assert.equal(redactForm(form), kept));
});

test('everything else is kept byte for byte', () => {
  const texts = [
    'GET https://api.allowed.test/v1/x?y=1 200',
    'mailto:a@b.test and https://h.test/@user',
    'eyJust a word',
    '{"a":"\\u00e9\\n"}',
    'sbx-abcdefghijklmnop 1.2.3 a.b.c',
  ];
  for (const text of texts) assert.equal(redactText(text), text);
  assert.deepEqual(redact({ a: 1, b: null, c: [true, 'x'], d: { e: undefined } }), {
    a: 1,
    b: null,
    c: [true, 'x'],
    d: { e: undefined },
  });
});

test('deeper than eight levels is cut, and a value is never changed in place', () => {
  let deep: unknown = A_TOKEN;
  for (let level = 0; level < 12; level++) deep = { a: deep };
  const before = JSON.stringify(deep);
  const text = JSON.stringify(redact(deep));
  assert.match(text, /TRUNCATED_DEPTH/);
  assert.equal(text.split('"a"').length - 1, 9);
  assert.equal(JSON.stringify(deep), before);
});

test('text that a sandbox chose cannot make redaction slow', async () => {
  const pieces = ['a.', 'eyJ-', 'eyJ.', 'eyJ.a.', 'bearer ', 'a://', '://a', 'basic\\n', '@:/'];
  const took = await cpuMsOf(() => {
    for (const piece of pieces) redactText(piece.repeat(200_000 / piece.length));
    for (const piece of ['&', 'a', '%', '=', 'token', '&token='])
      redactForm(piece.repeat(200_000 / piece.length));
  });
  assert.ok(took < 2_000, `${took} ms of the processor`);
});
