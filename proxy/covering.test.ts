import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { type TestContext, test } from 'node:test';
import { FieldCover, PromptCover } from './covering.ts';
import { createRedactor, type RedactionStream } from './redaction.ts';

const SECRET = 's3cr3t /+&"<\'>~%-Token-0123456789';
/** More than what is held waits for. */
const PAUSE_MS = 40;
/** So many bytes of a secret's beginning may come out. */
const LEAK_MAX = 7;

/** What a caller gets of pieces with a pause behind each. */
function paused(t: TestContext, redaction: RedactionStream, pieces: readonly Buffer[]): string {
  const out: Buffer[] = [];
  const cover = new PromptCover(redaction, (held) => void out.push(held));
  for (const piece of pieces) {
    out.push(cover.push(piece));
    t.mock.timers.tick(PAUSE_MS);
  }
  out.push(cover.end());
  return Buffer.concat(out).toString();
}

/** The same bytes, cut at each of the places. */
function cutAt(body: Buffer, ...places: readonly number[]): Buffer[] {
  const ends = [...places, body.length];
  return ends.map((end, at) => body.subarray(ends[at - 1] ?? 0, end));
}

/** How many bytes of its beginning stand where the whole was. */
function shown(out: string, at: number, written: string): number {
  let length = 0;
  while (length < written.length && out[at + length] === written[length]) length += 1;
  return length;
}

const escapedBy = (escape: (char: string) => string, which = /[^]/g): string =>
  SECRET.replace(which, escape);
const hexOf = (char: string): string => char.charCodeAt(0).toString(16);
const SPELLINGS = [
  SECRET,
  ...[0, 2, 3].map((from, at) =>
    Buffer.from(`${'x'.repeat(at)}${SECRET}`)
      .toString('base64')
      .slice(from, Math.floor(((SECRET.length + at) * 8) / 6)),
  ),
  Buffer.from(SECRET).toString('hex'),
  encodeURIComponent(SECRET),
  new URLSearchParams({ k: SECRET }).toString().slice(2),
  JSON.stringify(SECRET).slice(1, -1),
  escapedBy((char) => `%${hexOf(char)}`),
  escapedBy((char) => `%${hexOf(char)}`.toUpperCase(), /[^a-z0-9]/gi),
  escapedBy((char) => `\\u00${hexOf(char)}`),
  escapedBy((char) => `&#x${hexOf(char)};`, /[^a-z0-9]/gi),
  escapedBy((char) => `&#${char.charCodeAt(0)};`),
];

const NOTHING_COVERED: () => RedactionStream = () => createRedactor([]).stream();

for (const written of SPELLINGS)
  test(`a pause anywhere in ${written}: at most ${LEAK_MAX} bytes of its beginning come out`, (t) => {
    t.mock.timers.enable({ apis: ['setTimeout'] });
    const body = Buffer.from(`[${written}]`);
    const redactor = createRedactor([SECRET]);
    for (let first = 0; first <= body.length; first++)
      for (let second = first; second <= body.length; second++) {
        const pieces = cutAt(body, first, second);
        const out = paused(t, redactor.stream(), pieces);
        const where = `cut at ${first} and ${second}: ${out}`;
        assert.equal(out.length, body.length, where);
        assert.ok(out.startsWith('[') && out.endsWith(']'), where);
        const clear = shown(out, 1, written);
        assert.ok(clear <= LEAK_MAX, where);
        assert.match(out.slice(1 + clear, -1), /^\*+$/, where);
      }
    const single = cutAt(body, ...body.keys());
    const byByte = paused(t, redactor.stream(), single);
    assert.equal(byByte, `[${written.slice(0, LEAK_MAX)}${'*'.repeat(written.length - LEAK_MAX)}]`);
    assert.equal(paused(t, NOTHING_COVERED(), single), `[${written}]`, 'control: it was there');
  });

test('control: without what was held before the pause, the rest of a secret is not known as one', () => {
  const redactor = createRedactor([SECRET]);
  const apart = cutAt(Buffer.from(SECRET), 15).map((piece) => {
    const stream = redactor.stream();
    return Buffer.concat([stream.push(piece), stream.end()]);
  });
  assert.equal(Buffer.concat(apart).toString(), SECRET);
});

test('of a secret shorter than 16 bytes less than the half comes out', (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] });
  const single = cutAt(Buffer.from('hunter22'), 1, 2, 3, 4, 5, 6, 7);
  assert.equal(paused(t, createRedactor(['hunter22']).stream(), single), 'hun*****');
});

test('a short beginning that goes on as something else comes out as it was, in time', (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] });
  const said: string[] = [];
  const stream = createRedactor([SECRET]).stream();
  const cover = new PromptCover(stream, (held) => said.push(held.toString()));
  said.push(cover.push(Buffer.from('a s3cr')).toString());
  assert.deepEqual(said, ['a ']);
  t.mock.timers.tick(PAUSE_MS);
  assert.deepEqual(said, ['a ', 's3cr']);
  said.push(cover.push(Buffer.from('etary')).toString(), cover.end().toString());
  assert.equal(said.join(''), 'a s3cretary');
  assert.equal(stream.found, 0);
});

const COUNTS: readonly (readonly [what: string, pieces: readonly string[], found: number])[] = [
  ['a secret with a pause in it', [SECRET.slice(0, 10), SECRET.slice(10)], 1],
  ['one with many pauses', SECRET.split(''), 1],
  ['two with pauses', `${SECRET} ${SECRET}`.split(''), 2],
  ['a beginning that stays one', [SECRET.slice(0, 10), ' and more'], 1],
  ['a beginning too short to tell', [SECRET.slice(0, LEAK_MAX), ' and more'], 0],
];
for (const [what, pieces, found] of COUNTS)
  test(`${what} counts as ${found}`, (t) => {
    t.mock.timers.enable({ apis: ['setTimeout'] });
    const stream = createRedactor([SECRET]).stream();
    paused(
      t,
      stream,
      pieces.map((piece) => Buffer.from(piece)),
    );
    assert.equal(stream.found, found);
  });

test('random secrets, bodies and pauses: of each occurrence no byte comes out behind those that do not give it away', (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] });
  const secrets = ['aababbabaabbabab', 'abbaab', 'bbabaabba'];
  for (let round = 0; round < 500; round++) {
    const body = Buffer.from([...randomBytes(40)].map((byte) => 97 + (byte % 2)));
    const planted = Buffer.from(secrets[round % secrets.length] ?? '');
    planted.copy(body, round % (body.length - planted.length));
    const places = [...body.keys()].filter(() => (randomBytes(1)[0] ?? 0) < 64);
    const out = paused(t, createRedactor(secrets).stream(), cutAt(body, ...places));
    for (const secret of secrets) {
      const harmless = Math.min(LEAK_MAX, Math.ceil(secret.length / 2) - 1);
      for (let at = body.indexOf(secret); at >= 0; at = body.indexOf(secret, at + 1))
        assert.match(
          out.slice(at + harmless, at + secret.length),
          /^\*+$/,
          `${secret} at ${at} of ${body.toString()}, cut at ${places.join()}: ${out}`,
        );
    }
    for (const [at, char] of out.split('').entries())
      assert.ok(char === '*' || char.charCodeAt(0) === body[at], `byte ${at} of ${out}`);
  }
});

test('fields are counted where they held a secret', () => {
  const fields = new FieldCover(createRedactor([SECRET]));
  assert.equal(fields.cover(`x ${SECRET}`), `x ${'*'.repeat(SECRET.length)}`);
  assert.equal(fields.cover('x'), 'x');
  assert.equal(fields.found, 1);
  const open = new FieldCover(undefined);
  assert.equal(open.cover(SECRET), SECRET);
  assert.equal(open.found, 0);
});

test('of many fields those are covered and counted that held a secret, and the others are as they were', () => {
  const fields = new FieldCover(createRedactor([SECRET]));
  const clean = ['content-type', 'text/plain'];
  assert.equal(fields.coverAll(clean), clean);
  assert.equal(fields.found, 0);
  assert.deepEqual(fields.coverAll([...clean, 'x-echo', `a ${SECRET}`, `x-${SECRET}`, 'b']), [
    ...clean,
    'x-echo',
    `a ${'*'.repeat(SECRET.length)}`,
    `x-${'*'.repeat(SECRET.length)}`,
    'b',
  ]);
  assert.equal(fields.found, 2);
  // A secret that two fields hold the halves of is in neither.
  const halves = [SECRET.slice(0, 5), SECRET.slice(5)];
  assert.deepEqual(fields.coverAll(halves), halves);
});
