import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  type Case,
  fuzzAnswers,
  type Reading,
  type Told,
  tellOurs,
} from '../fuzz/answers/index.ts';

// A short run of what `npm run fuzz -- answers` does at length. Needs /usr/bin/python3.

const SEED = 20_261_121;

test('E8: what llhttp, undici and Python read otherwise than our parser of answers, it has refused', async () => {
  const { findings, seen } = await fuzzAnswers(800, SEED);
  assert.deepEqual(findings, []);
  const times = (what: RegExp) =>
    [...seen].filter(([outcome]) => what.test(outcome)).reduce((sum, [, count]) => sum + count, 0);
  assert.ok(times(/^accepted with a body/) > 60, 'many answers with a body are accepted');
  assert.ok(times(/^accepted until/) > 30, 'and many without a length');
  assert.ok(times(/^refused/) > 200, 'and many are refused');
});

const ALL = ['llhttp, strict', 'llhttp, lenient', 'undici', 'python'];

/** What a parser does that is not ours, and who notices. */
const CONTROLS: readonly [string, (one: Case) => Told, readonly string[]][] = [
  [
    'takes the first of two lengths',
    renaming(/(content-length: ?\d+\r\n(?:[^\r\n]+\r\n)*?)(content-)(?=length)/i, '$1kontent-'),
    ['llhttp, strict', 'undici'],
  ],
  [
    'takes a length beside chunks',
    renaming(
      /content-(?=length:[^]*\r\ntransfer-encoding:)|(?<=\r\ntransfer-encoding:[^]*)content-(?=length:)/i,
      'kontent-',
    ),
    ['llhttp, strict', 'undici'],
  ],
  [
    'takes a lone LF for the end of a line',
    ({ text, ...rest }) => shifted({ text, ...rest }, text.replace(/(?<!\r)\n(?=[A-Z])/g, '\r\n')),
    ['llhttp, strict', 'undici'],
  ],
  [
    'loses a byte of a body',
    reading(({ body, ...rest }) => ({ ...rest, body: body.slice(1) })),
    ALL,
  ],
  ['loses a field', reading(({ heads, ...rest }) => ({ ...rest, heads: heads.map(lessOne) })), ALL],
  [
    'ends a byte early',
    (one) => ({ ...tellOurs(one), bytes: (tellOurs(one).bytes ?? 1) - 1 }),
    ALL,
  ],
  [
    'reads pieces otherwise',
    (one) => ({ ...tellOurs(one), uneven: one.cuts % 2 === 0 ? 'pieces' : undefined }),
    ['ours'],
  ],
];
for (const [what, tell, readers] of CONTROLS)
  test(`control: a parser that ${what} is noticed by ${readers.join(' and ')}`, async () => {
    const { findings } = await fuzzAnswers(600, SEED, tell);
    const noticed = new Set(findings.map(({ reader }) => reader));
    assert.deepEqual(
      readers.filter((reader) => noticed.has(reader)),
      readers,
    );
    assert.ok(findings.every(({ minimal }) => minimal.text.length > 0));
  });

/** Ours, made blind for a name by another of the same length, which it tells as what it was. */
function renaming(what: RegExp, to: string): (one: Case) => Told {
  const back = (text: string): string => text.replace('kontent-', 'content-');
  const told = reading(({ heads, ...rest }) => ({
    ...rest,
    heads: heads.map(({ status, headers }) => ({ status, headers: headers.map(back) })),
  }));
  return (one) => told({ ...one, text: one.text.replace(what, to) });
}

/** Ours, with every reading changed. */
function reading(change: (reading: Reading) => Reading): (one: Case) => Told {
  return (one) => {
    const { open, ended, ...rest } = tellOurs(one);
    return { ...rest, open: change(open), ended: change(ended) };
  };
}

/** Ours of a text that is longer, its end counted in the one that was given. */
function shifted(one: Case, longer: string): Told {
  const told = tellOurs({ ...one, text: longer });
  const more = longer.length - one.text.length;
  return { ...told, bytes: told.bytes === undefined ? undefined : told.bytes - more };
}

function lessOne<Head extends { readonly headers: readonly string[] }>(head: Head): Head {
  return { ...head, headers: head.headers.slice(2) };
}
