import assert from 'node:assert/strict';
import { test } from 'node:test';
import { OutputHistory } from './output-history.ts';

const text = (history: OutputHistory) =>
  history.chunks().map(({ offset, data }) => [offset, data.toString()]);

test('the pieces that come are few when they are asked for, and in their places', () => {
  const history = new OutputHistory(1_000);
  for (let at = 0; at < 100; at++) history.push({ offset: at, data: Buffer.from('x') });
  assert.deepEqual(text(history), [[0, 'x'.repeat(100)]]);
  history.push({ offset: 500, data: Buffer.from('tail') });
  assert.deepEqual(text(history), [
    [0, 'x'.repeat(100)],
    [500, 'tail'],
  ]);
  history.finish();
  assert.deepEqual(text(history).at(-1), [500, 'tail']);
  assert.equal(history.bytes, 104);
});

test('the newest is kept, as much as was said and at most a block more', () => {
  const keep = 256 * 1024;
  const history = new OutputHistory(keep);
  const piece = Buffer.alloc(10_000, 'p');
  for (let at = 0; at < 200; at++) history.push({ offset: at * piece.length, data: piece });
  assert.ok(history.bytes >= keep && history.bytes <= keep + 2 * 64 * 1024, `${history.bytes}`);
  const chunks = history.chunks();
  const last = chunks.at(-1);
  assert.equal((last?.offset ?? 0) + (last?.data.length ?? 0), 2_000_000);
  chunks.forEach(({ offset, data }, at) =>
    assert.equal(offset + data.length, chunks[at + 1]?.offset ?? 2_000_000, 'nothing is missing'),
  );
});

test('what was asked for does not change when more comes, or when it is let go', () => {
  const history = new OutputHistory(100);
  history.push({ offset: 0, data: Buffer.from('abc') });
  const then = history.chunks();
  history.push({ offset: 3, data: Buffer.from('def') });
  history.clear();
  assert.equal(then[0]?.data.toString(), 'abc');
  assert.deepEqual([history.bytes, history.chunks()], [0, []]);
});
