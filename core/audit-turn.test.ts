import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import { TurnSink } from './audit-turn.ts';
import { OutriderError } from './errors.ts';

/** A file in memory, whose disk can be full. */
function paper() {
  const writes: string[] = [];
  const disk = { full: false };
  const told: [code: string, owed: number][] = [];
  const asked: number[] = [];
  const sink = new TurnSink(
    {
      append(lines) {
        if (disk.full) throw new Error('no space left on device');
        writes.push(lines);
      },
      turn(bytes) {
        asked.push(bytes);
        return undefined;
      },
    },
    (error, owed) => told.push([error.code, owed]),
  );
  return { sink, writes, disk, told, asked };
}

test('what one turn appends is one write, and who waits is told behind it, in order', async () => {
  const { sink, writes } = paper();
  const seen: string[] = [];
  for (const line of ['a', 'b']) {
    sink.append(line);
    sink.afterwards((error) => seen.push(`${line} ${error?.code ?? 'written'} ${writes.length}`));
  }
  assert.deepEqual([writes, seen], [[], []]);
  await turn();
  assert.deepEqual([writes, seen], [['a\nb'], ['a written 1', 'b written 1']]);
});

test('who waits for nothing is told at once', () => {
  const { sink } = paper();
  let told = 0;
  sink.afterwards(() => (told += 1));
  assert.equal(told, 1);
});

test('a write before the turn’s end tells who waits, once', async () => {
  const { sink, writes } = paper();
  let told = 0;
  sink.append('a');
  sink.afterwards(() => (told += 1));
  sink.write();
  assert.deepEqual([writes, told], [['a'], 1]);
  await turn();
  assert.deepEqual([writes, told], [['a'], 1]);
});

test('what cannot be written is owed: who waits hears so, and it comes before what is next', async () => {
  const { sink, writes, disk, told } = paper();
  disk.full = true;
  sink.append('a');
  const seen: (string | undefined)[] = [];
  sink.afterwards((error) => seen.push(error?.code));
  await turn();
  assert.deepEqual(seen, ['AUDIT_UNAVAILABLE']);
  assert.deepEqual(told, [['AUDIT_UNAVAILABLE', 1]]);
  assert.equal(sink.failing, true);
  assert.throws(
    () => sink.write(),
    (error) => error instanceof OutriderError && error.code === 'AUDIT_UNAVAILABLE',
  );
  disk.full = false;
  sink.append('b');
  await turn();
  assert.deepEqual([writes, sink.failing], [['a\nb'], false]);
});

test('beyond 10 000 lines that are owed none is taken', () => {
  const { sink, disk } = paper();
  disk.full = true;
  for (let count = 0; count < 10_000; count++) sink.append('x');
  assert.throws(() => sink.append('one more'), OutriderError);
});

test('another file is begun between turns only', async () => {
  const { sink, asked } = paper();
  sink.turn(1);
  sink.append('a');
  sink.turn(2);
  await turn();
  sink.turn(3);
  assert.deepEqual(asked, [1, 3]);
});
