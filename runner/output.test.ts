import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { joinOutput, OutputAccount, type OutputChunk } from './output.ts';

/** What should come of a stream: the obvious way, with everything in memory. */
function model(written: Buffer, limit: number): { kept: [number, Buffer][]; overflowed: boolean } {
  const tail = Math.min(65_536, Math.floor(limit / 2));
  const head = limit - tail;
  if (written.length <= limit) return { kept: [[0, written]], overflowed: false };
  return {
    kept: [
      [0, written.subarray(0, head)],
      [written.length - tail, written.subarray(written.length - tail)],
    ],
    overflowed: true,
  };
}

function play(pieces: readonly Buffer[], limit: number) {
  const account = new OutputAccount(limit);
  const chunks: OutputChunk[] = [];
  for (const piece of pieces) {
    const chunk = account.push(piece);
    if (chunk) chunks.push({ ...chunk, data: Buffer.from(chunk.data) });
  }
  const last = account.finish();
  if (last) chunks.push(last);
  return { account, chunks };
}

/** Pieces that touch as one: where each run of bytes begins, and its bytes. */
function spans(pieces: readonly (readonly [number, Buffer])[]): [number, string][] {
  const runs: { from: number; to: number; parts: Buffer[] }[] = [];
  for (const [offset, data] of pieces) {
    const last = runs.at(-1);
    if (data.length === 0) continue;
    if (last?.to === offset) {
      last.parts.push(data);
      last.to += data.length;
    } else runs.push({ from: offset, to: offset + data.length, parts: [data] });
  }
  return runs.map(({ from, parts }) => [from, Buffer.concat(parts).toString('latin1')]);
}

/** A small generator with a seed (mulberry32), so that a failure can be repeated. */
function random(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) % below;
  };
}

test('head and tail are kept and counts are exact, for any stream in any pieces under any limit', () => {
  for (let seed = 1; seed <= 400; seed++) {
    const below = random(seed);
    const limit = [0, 1, 2, 3, 64, 1_000, 70_000, 200_000][below(8)] ?? 0;
    const pieces = Array.from({ length: below(12) }, () => {
      const size = below([4, 200, 90_000][below(3)] ?? 1);
      const data = Buffer.allocUnsafe(size);
      for (let at = 0; at < size; at++) data[at] = (at * 7 + seed) & 0xff;
      return data;
    });
    const written = Buffer.concat(pieces);
    const { account, chunks } = play(pieces, limit);
    const expected = model(written, limit);
    const why = `seed ${seed}: limit ${limit}, ${written.length} bytes`;

    const captured = expected.kept.reduce((sum, [, data]) => sum + data.length, 0);
    assert.deepEqual(
      spans(chunks.map(({ offset, data }) => [offset, data])),
      spans(expected.kept),
      why,
    );
    assert.deepEqual(
      account.account,
      {
        captured,
        total: written.length,
        dropped: written.length - captured,
      },
      why,
    );
    assert.equal(account.overflowed, expected.overflowed, why);
  }
});

test('the head passes at once, so that a program can be watched', () => {
  const account = new OutputAccount(1_000);
  assert.deepEqual(account.push(Buffer.from('abc')), { offset: 0, data: Buffer.from('abc') });
  assert.deepEqual(account.push(Buffer.from('de')), { offset: 3, data: Buffer.from('de') });
});

test('what is kept does not grow with what is written', () => {
  const account = new OutputAccount(2 ** 20);
  const piece = Buffer.alloc(65_536);
  const before = process.memoryUsage().arrayBuffers;
  for (let count = 0; count < 8_192; count++) account.push(piece); // 512 MiB
  const grown = process.memoryUsage().arrayBuffers - before;
  assert.ok(grown < 160 * 2 ** 20, `${grown} bytes`); // what is not collected yet counts
  assert.equal(account.account.total, 512 * 2 ** 20);
});

describe('joined', () => {
  const chunk = (offset: number, text: string): OutputChunk => ({
    offset,
    data: Buffer.from(text),
  });
  const cases: readonly (readonly [string, OutputChunk[], string])[] = [
    ['nothing', [], ''],
    ['pieces that touch', [chunk(0, 'ab'), chunk(2, 'c')], 'abc'],
    ['pieces that do not', [chunk(0, 'ab'), chunk(12, 'c')], 'ab\n[... 10 bytes dropped ...]\nc'],
    ['a tail alone', [chunk(5, 'x')], '\n[... 5 bytes dropped ...]\nx'],
  ];
  for (const [what, chunks, text] of cases)
    test(`${what} reads ${JSON.stringify(text)}`, () => {
      assert.equal(joinOutput(chunks).toString(), text);
    });
});
