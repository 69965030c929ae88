import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { keptAlive } from './keep-alive.ts';

async function* items(...all: readonly (string | number)[]): AsyncGenerator<string> {
  for (const one of all)
    if (typeof one === 'number') await sleep(one);
    else yield one;
}

test('silence is broken so often as was said, and items pass as they are', async () => {
  const seen: string[] = [];
  for await (const one of keptAlive(items('a', 'b', 250, 'c'), 100, () => '.')) seen.push(one);
  assert.deepEqual(seen.slice(0, 2), ['a', 'b']);
  assert.equal(seen.at(-1), 'c');
  const still = seen.filter((one) => one === '.').length;
  assert.ok(still >= 1, `${still} times`);
});

test('whoever leaves early ends the source, and an error of the source passes', async () => {
  let ended = false;
  async function* endless(): AsyncGenerator<string> {
    try {
      for (;;) yield 'a';
    } finally {
      ended = true;
    }
  }
  for await (const _ of keptAlive(endless(), 1_000, () => '.')) break;
  assert.equal(ended, true);
  async function* broken(): AsyncGenerator<string> {
    yield 'a';
    throw new Error('broken');
  }
  await assert.rejects(async () => {
    for await (const _ of keptAlive(broken(), 1_000, () => '.'));
  }, /broken/);
});
