import assert from 'node:assert/strict';
import { test } from 'node:test';
import { OutriderError } from '#core/errors';
import { EndedExecs, failedToStart } from './ended-execs.ts';
import type { Ending } from './exec.ts';
import type { ExecFacts } from './exec-facts.ts';

const who = (subject: string) => ({ issuer: 'i', tenant: 't', subject });
const ENDING = failedToStart(new OutriderError('EXEC_LOST', 'gone'));

function rig(options: ConstructorParameters<typeof EndedExecs>[0] = {}) {
  const ended = new EndedExecs(options);
  const add = (execId: string, subject = 'alice', over: Partial<Ending> = {}, at?: number) =>
    ended.add(who(subject), { execId } as ExecFacts, { ...ENDING, ...over }, at); // only its id is looked at
  const kept = (...ids: string[]) => ids.filter((id) => ended.get(id) !== undefined).join(' ');
  return { add, kept, ended };
}

test('of one owner the newest are remembered', () => {
  const { add, kept } = rig({ most: 2 });
  for (const id of ['a', 'b', 'c']) add(id);
  assert.equal(kept('a', 'b', 'c'), 'b c');
});

test('who has ended many crowds out nobody who has ended few', () => {
  const { add, kept } = rig({ most: 3 });
  add('mine', 'bob');
  for (const id of ['a', 'b', 'c', 'd']) add(id);
  assert.equal(kept('mine', 'a', 'b', 'c', 'd'), 'mine c d');
});

test('nor does who has ended with long names and messages', () => {
  const { add, kept } = rig();
  const long = { type: 'E', message: '', traceback: 'x'.repeat(17 * 2 ** 20) };
  add('mine', 'bob');
  add('a', 'alice', { exception: long });
  add('b', 'alice', { exception: long });
  assert.equal(kept('mine', 'a', 'b'), 'mine b');
});

test('none is remembered for longer than it should be, nor its artefacts with their contents', () => {
  const { add, kept, ended } = rig({ keepMs: 60_000 });
  add('old', 'alice', {}, Date.now() - 60_000);
  const artefacts = [{ path: 'f', size: 1, sha256: '00', content: Buffer.from('x') }];
  add('new', 'alice', { artefacts });
  assert.equal(kept('old', 'new'), 'new');
  assert.equal(ended.get('new')?.ending.artefacts[0]?.content.length, 0);
});
