import assert from 'node:assert/strict';
import { once } from 'node:events';
import test from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import { atTurnEnd, byTurnEnd } from './turn-end.ts';

test('everything of a turn runs at its end, in order', async () => {
  const ran: string[] = [];
  atTurnEnd(() => ran.push('first'));
  await Promise.resolve();
  byTurnEnd(() => ran.push('second'));
  assert.deepEqual(ran, []);
  await turn();
  assert.deepEqual(ran, ['first', 'second']);
});

test('at the end of a turn there is its end, or the next one', async () => {
  const ran: string[] = [];
  atTurnEnd(() => {
    atTurnEnd(() => ran.push('next'));
    byTurnEnd(() => ran.push('now'));
    ran.push('after');
  });
  await turn();
  assert.deepEqual(ran, ['now', 'after']);
  await turn();
  assert.deepEqual(ran, ['now', 'after', 'next']);
});

test('what fails keeps nobody else from running, and is not lost', async (t) => {
  const ran: string[] = [];
  const listeners = process.listeners('uncaughtException');
  process.removeAllListeners('uncaughtException');
  t.after(() => {
    for (const listener of listeners) process.on('uncaughtException', listener);
  });
  const thrown = once(process, 'uncaughtException');
  atTurnEnd(() => {
    throw new Error('mine');
  });
  atTurnEnd(() => ran.push('other'));
  const [error] = await thrown;
  assert.equal(error.message, 'mine');
  assert.deepEqual(ran, ['other']);
  const later: string[] = [];
  byTurnEnd(() => later.push('later'));
  assert.deepEqual(later, []);
  await turn();
  assert.deepEqual(later, ['later']);
});
