import assert from 'node:assert/strict';
import { test } from 'node:test';
import { outputPassed } from './output-garbage.ts';

const MIB = 2 ** 20;
const PIECE = 64 * 1024;

/** Makes pieces of output that nobody keeps, 48 MiB of them, and tells how much of them lay about at the most. */
async function most(passed: (bytes: number) => void): Promise<number> {
  const before = process.memoryUsage().arrayBuffers;
  let found = 0;
  for (let at = 0; at < 48 * MIB; at += PIECE) {
    passed(Buffer.alloc(PIECE, 'x').length);
    found = Math.max(found, process.memoryUsage().arrayBuffers - before);
    await new Promise((resolve) => setImmediate(resolve));
  }
  return found / MIB;
}

test('what is left of output that has passed does not pile up', async () => {
  const control = await most(() => {});
  assert.ok(control > 16, `control: left alone it does, ${control} MiB`);
  const cleared = await most(outputPassed);
  assert.ok(cleared < 8, `${cleared} MiB`);
});

test('nobody else gets the collector', () => {
  outputPassed(2 * MIB);
  assert.equal(Reflect.get(globalThis, 'gc'), undefined);
});
